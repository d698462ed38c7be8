"""Descriptors kept back: they are given back, and no others are closed with them."""

from __future__ import annotations

import os
from pathlib import Path

from runyard_workers.isolation.descriptors import Reserve


def _open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_they_are_given_back_by_hand_and_with_their_reserve() -> None:
    before = _open()
    reserve = Reserve(10)
    assert _open() == before + 10
    reserve.release()
    assert _open() == before
    Reserve(10)
    assert _open() == before, "none is open any more"


def test_a_number_that_an_agent_closed_and_another_file_got_stays_open(tmp_path: Path) -> None:
    reserve = Reserve(3)
    descriptor = reserve._reserved[1]
    os.close(descriptor)
    (tmp_path / "a").write_text("mine")
    with (tmp_path / "a").open() as file:
        assert file.fileno() == descriptor
        reserve.release()
        assert file.read() == "mine"
