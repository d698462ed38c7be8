"""A worker that is asked to stop drains and ends although its main thread waits for a broker."""

from __future__ import annotations

import threading

import pytest

from runyard_workers.pool import leaving
from runyard_workers.pool.leaving import Leaving


class Pool:
    """A pool whose drain is over at once."""

    draining = False

    def begin_drain(self) -> None:
        self.draining = True

    def drained(self) -> bool:
        return self.draining


def test_a_drain_that_the_main_thread_does_not_begin_is_begun_and_the_process_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "BEGIN_SECONDS", 0.1)
    monkeypatch.setattr(leaving, "END_SECONDS", 0.1)
    pool, ended, codes = Pool(), threading.Event(), list[int]()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    watch = Leaving(pool, lambda: 1.0, end)
    watch._watch(how="Cold")
    assert not ended.wait(0.5), "a cold shutdown is Celery's own"
    watch._watch(how="Warm", exitcode=0)
    watch._watch(how="Warm", exitcode=0)
    assert ended.wait(10)
    assert (pool.draining, codes) == (True, [0])
