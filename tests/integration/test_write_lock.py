"""SQLite's write lock: no later writer goes first, and none waits for ever."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from runyard_common.database import write_lock
from runyard_common.database.engine import Database
from runyard_common.database.write_lock import FairWriteLock
from tests.waiting import wait_until


def is_held(path: Path) -> bool:
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
    lock = FairWriteLock(str(tmp_path / "db"))
    order: list[str] = []

    def wait() -> None:
        with lock.hold():
            order.append("who waited")

    with lock.hold():
        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: is_held(tmp_path / "db-queue.lock"))
    with lock.hold():  # at once, before the other can have woken up
        order.append("who had it before")
    waiting.join(50)
    assert order == ["who waited", "who had it before"]


def test_a_writer_among_greedy_ones_goes_after_each_of_them_once(tmp_path: Path) -> None:
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
        thread.join(50)
    db.close()
    # A few, more on a busy machine: those that queued as well and happened to try first. It was
    # hundreds without the queue.
    assert most <= 40, "starved by writers that never pause"


def test_no_writer_waits_for_ever_for_a_process_that_was_suspended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_lock, "PATIENCE", 0.05)
    with (tmp_path / "db-write.lock").open("w") as suspended:
        fcntl.flock(suspended, fcntl.LOCK_EX)
        with FairWriteLock(str(tmp_path / "db")).hold():
            assert not is_held(tmp_path / "db-queue.lock"), "the next one may try"


def test_without_its_files_the_work_is_done_all_the_same(tmp_path: Path) -> None:
    with FairWriteLock(str(tmp_path / "missing" / "db")).hold():
        done = True
    assert done


def test_the_lock_is_released_when_its_work_fails(tmp_path: Path) -> None:
    lock = FairWriteLock(str(tmp_path / "db"))
    with pytest.raises(ValueError, match="broken"), lock.hold():
        raise ValueError("broken")
    assert not is_held(tmp_path / "db-write.lock")
    assert not is_held(tmp_path / "db-queue.lock")


def test_a_child_forked_in_the_middle_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = FairWriteLock(str(tmp_path / "db"))
    read, write = os.pipe()
    with lock.hold():
        child = os.fork()
        if child == 0:
            os.read(read, 1)  # until the test lets it end
            os._exit(0)
    try:
        assert not is_held(tmp_path / "db-write.lock")
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
