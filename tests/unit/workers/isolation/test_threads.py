"""Threads for blocking code."""

from __future__ import annotations

import threading

import pytest

from runyard_workers.isolation.threads import DaemonThreads
from tests.waiting import wait_until


def test_threads_are_made_on_demand_up_to_the_limit() -> None:
    threads = DaemonThreads(2, "test")
    threads.submit(lambda: None).result(50)
    assert threads.size == 1
    threads.submit(lambda: None).result(50)
    assert threads.size == 1  # reused
    barrier = threading.Barrier(3)
    meeting = [threads.submit(barrier.wait, 5) for _ in range(3)]
    wait_until(lambda: barrier.n_waiting == 2)
    assert threads.size == 2
    barrier.wait(50)  # the third
    meeting[2].cancel()
    threads.shutdown(wait=False, cancel_futures=True)


def test_exceptions_and_exits_reach_the_caller() -> None:
    threads = DaemonThreads(1, "test")

    def fail(error: BaseException) -> None:
        raise error

    for error in (ValueError("x"), SystemExit(1)):
        assert threads.submit(fail, error).exception(5) is error
    assert threads.submit(lambda: 1).result(50) == 1
    threads.shutdown()
    assert threads.size == 0


def test_a_shutdown_drops_queued_calls_and_waits_for_no_daemon() -> None:
    threads = DaemonThreads(1, "test")
    stuck = threading.Event()
    running = threads.submit(stuck.wait, 5)
    queued = threads.submit(lambda: None)
    threads.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("test-"))
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(lambda: None)
    stuck.set()
    assert running.result(50) is True
