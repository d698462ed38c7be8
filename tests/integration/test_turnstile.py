"""Turns at SQLite's write lock: no later writer goes first, and none waits for ever."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from runyard_common.database import turnstile
from runyard_common.database.engine import Database
from runyard_common.database.turnstile import Turnstile
from tests.waiting import wait_until


def is_taken(path: Path) -> bool:
    """Whether a process holds this file's lock."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_who_asks_again_goes_behind_who_waits(tmp_path: Path) -> None:
    turns = Turnstile(str(tmp_path / "db"))
    order: list[str] = []

    def wait() -> None:
        with turns.turn():
            order.append("who waited")

    with turns.turn():
        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: is_taken(tmp_path / "db-gate"))
    with turns.turn():  # at once, before the other can have woken up
        order.append("who had it before")
    waiting.join(10)
    assert order == ["who waited", "who had it before"]


def test_a_writer_among_greedy_ones_gets_its_turn_after_each_of_them_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'db'}"
    db = Database(url)
    with db.begin() as conn:
        conn.execute(text("CREATE TABLE t (n)"))
    over = threading.Event()
    written = [0, 0]

    def greedy(which: int) -> None:
        own = Database(url)
        while not over.is_set():
            with own.begin() as conn:
                conn.execute(text("INSERT INTO t VALUES (1)"))
                written[which] += 1
                over.wait(0.01)
        own.close()

    threads = [threading.Thread(target=greedy, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(written))
    most = 0
    for _ in range(10):
        before = sum(written)
        with db.begin():
            most = max(most, sum(written) - before)
    over.set()
    for thread in threads:
        thread.join(10)
    db.close()
    # A few, more on a busy machine: those that stood at the gate as well and happened to try it first. It was
    # hundreds without turns.
    assert most <= 40, "starved by writers that never pause"


def test_no_writer_waits_for_ever_for_a_process_that_was_suspended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "PATIENCE", 0.05)
    with (tmp_path / "db-room").open("w") as suspended:
        fcntl.flock(suspended, fcntl.LOCK_EX)
        with Turnstile(str(tmp_path / "db")).turn():
            assert not is_taken(tmp_path / "db-gate"), "the next one may try"


def test_without_its_files_there_are_no_turns_but_the_work_is_done(tmp_path: Path) -> None:
    with Turnstile(str(tmp_path / "missing" / "db")).turn():
        done = True
    assert done


def test_a_turn_ends_when_its_work_fails(tmp_path: Path) -> None:
    turns = Turnstile(str(tmp_path / "db"))
    with pytest.raises(ValueError, match="broken"), turns.turn():
        raise ValueError("broken")
    assert not is_taken(tmp_path / "db-room")
    assert not is_taken(tmp_path / "db-gate")
