"""Slots: how many runs a worker holds at once."""

from __future__ import annotations

import pytest

from runyard_workers.slots import Slots


def test_no_more_are_taken_than_are_free() -> None:
    slots = Slots(3)
    assert [slots.reserve(2), slots.reserve(5), slots.reserve(1)] == [2, 1, 0]
    slots.occupy(2)  # threads of a run that has ended
    slots.release(2)
    assert (slots.free, slots.in_use) == (0, 3)
    slots.release()
    assert slots.free == 1


def test_room_is_announced_once_when_all_were_in_use() -> None:
    calls: list[int] = []
    slots = Slots(2)
    slots.on_free(lambda: calls.append(slots.free))
    slots.on_free(lambda: calls.append(-1))
    slots.reserve(1)
    slots.release()
    assert calls == []
    slots.reserve(2)
    slots.release(2)
    assert calls == [2, -1]


def test_more_cannot_be_released_than_is_held() -> None:
    slots = Slots(2)
    slots.reserve(1)
    with pytest.raises(ValueError, match="2 slots released, 1 held"):
        slots.release(2)


def test_a_worker_has_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        Slots(0)
