"""Threads know for whose run they work, until they return."""

from __future__ import annotations

import threading

from runyard_workers.isolation.loop_guard import LoopGuard
from runyard_workers.isolation.run_threads import RunThreads
from tests.waiting import wait_until


def test_a_call_is_its_runs_until_it_returns_even_without_a_waiter() -> None:
    threads, guard, go = RunThreads(2), LoopGuard(), threading.Event()
    with guard.on_behalf_of("a"):
        call = threads.submit(go.wait, 10)
    threads.submit(int, "1").result(50)  # of no run
    assert threads.of("a") == [call]
    assert threads.of("b") == []
    go.set()
    wait_until(lambda: threads.of("a") == [])
    threads.shutdown(wait=True, cancel_futures=True)


def test_the_threads_of_all_runs_are_not_an_agents_to_shut_down() -> None:
    threads = RunThreads(2)
    threads.shutdown(wait=True)  # as loop.shutdown_default_executor() does
    assert threads.submit(int, "7").result(50) == 7
    threads.shutdown(wait=True, cancel_futures=True)  # as their owner does
