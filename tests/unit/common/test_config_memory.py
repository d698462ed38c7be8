"""The memory of configurations counts by numbers, and is bounded."""

from __future__ import annotations

from runyard_common.database.config_memory import ConfigMemory, Known


def test_a_value_counts_until_a_higher_number_is_seen() -> None:
    memory = ConfigMemory()
    memory.put("org", "limits", Known(3, "three"))
    assert memory.get("org", "limits") == Known(3, "three")
    memory.saw("org", 4)
    assert memory.get("org", "limits") is None
    assert memory.number("org") == 4


def test_a_late_reader_does_not_bring_an_old_value_back() -> None:
    memory = ConfigMemory()
    memory.saw("org", 4)
    memory.put("org", "limits", Known(3, "three"))
    assert memory.get("org", "limits") is None
    memory.put("org", "limits", Known(4, "four"))
    memory.saw("org", 3)
    assert memory.get("org", "limits") == Known(4, "four")


def test_what_is_forgotten_may_count_from_a_lower_number() -> None:
    """As after a database was restored."""
    memory = ConfigMemory()
    memory.put("org", "limits", Known(9, "nine"))
    memory.forget("org")
    assert memory.get("org", "limits") is None
    memory.put("org", "limits", Known(2, "two"))
    assert memory.get("org", "limits") == Known(2, "two")


def test_organisations_do_not_share_numbers() -> None:
    memory = ConfigMemory()
    memory.put("one", "limits", Known(1, "one"))
    memory.put("other", "limits", Known(7, "seven"))
    memory.saw("other", 8)
    assert memory.get("one", "limits") == Known(1, "one")


def test_what_was_used_longest_ago_goes_first() -> None:
    memory = ConfigMemory(most=2)
    for key in ("a", "b"):
        memory.put("org", key, Known(1, key))
    memory.get("org", "a")
    memory.put("org", "c", Known(1, "c"))
    assert memory.get("org", "b") is None
    assert memory.get("org", "a") == Known(1, "a")
    assert memory.get("org", "c") == Known(1, "c")


def test_what_was_refused_once_is_doubted_until_it_was_compared() -> None:
    memory = ConfigMemory()
    memory.doubt(["one", "other"])
    memory.trust(["one"])
    assert not memory.is_doubted("one")
    assert memory.is_doubted("other")
