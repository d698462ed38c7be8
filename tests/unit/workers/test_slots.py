"""Slots: how many runs a worker holds at once."""

from __future__ import annotations

import pytest

from runyard_workers.slots import Slots


def test_none_is_free_while_more_are_held_than_there_are() -> None:
    slots = Slots(3)
    slots.occupy(3)
    slots.occupy(2)  # threads of a run that has ended
    assert (slots.free, slots.in_use) == (0, 5)
    slots.release(2)
    assert (slots.free, slots.in_use) == (0, 3)
    slots.release()
    assert slots.free == 1


def test_room_is_announced_once_when_all_were_in_use() -> None:
    calls: list[int] = []
    slots = Slots(2)
    slots.on_free(lambda: calls.append(slots.free))
    slots.on_free(lambda: calls.append(-1))
    slots.occupy()
    slots.release()
    assert calls == []
    slots.occupy(2)
    slots.release(2)
    assert calls == [2, -1]


def test_more_cannot_be_released_than_is_held() -> None:
    slots = Slots(2)
    slots.occupy()
    with pytest.raises(ValueError, match="2 slots released, 1 held"):
        slots.release(2)


def test_a_worker_has_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        Slots(0)
