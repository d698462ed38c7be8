"""Threads for blocking code."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from runyard_workers.pool import (
    DaemonThreads,
)
from tests.unit.workers.pool.consumer import wait_until

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="nobody's")


class TestThreads:
    def test_blocking_code_runs_in_threads_with_the_callers_context(self, start: Any) -> None:
        seen: list[tuple[str, str]] = []

        def blocking() -> str:
            seen.append((MARK.get(), threading.current_thread().name))
            MARK.set("changed in the thread")
            return "done"

        async def caller() -> tuple[str, str]:
            MARK.set("the caller's")
            result = await consumer.pool.run_blocking(blocking)
            return result, MARK.get()

        consumer = start()
        answer = asyncio.run_coroutine_threadsafe(caller(), consumer.pool.loop).result(5)
        assert answer == ("done", "the caller's")
        assert seen == [("the caller's", "blocking-0")]

    def test_to_thread_uses_the_same_threads(self, start: Any) -> None:
        consumer = start()
        name = asyncio.to_thread(lambda: threading.current_thread().name)
        assert asyncio.run_coroutine_threadsafe(name, consumer.pool.loop).result(5) == "blocking-0"

    def test_threads_are_made_on_demand_up_to_the_limit_which_may_grow(self) -> None:
        threads = DaemonThreads(2, "test")
        threads.submit(lambda: None).result(5)
        assert threads.size == 1
        threads.submit(lambda: None).result(5)
        assert threads.size == 1  # reused
        gate = threading.Barrier(3)
        meeting = [threads.submit(gate.wait, 5) for _ in range(3)]
        wait_until(lambda: gate.n_waiting == 2)
        threads.resize(3)
        for one in meeting:
            one.result(5)
        assert threads.size == 3
        threads.resize(1)
        for _ in range(2):
            gate = threading.Barrier(1)
            threads.submit(gate.wait, 5).result(5)
        wait_until(lambda: threads.size == 1)
        threads.shutdown()
        assert threads.size == 0

    def test_exceptions_and_exits_reach_the_caller(self) -> None:
        threads = DaemonThreads(1, "test")

        def fail(error: BaseException) -> None:
            raise error

        for error in (ValueError("x"), SystemExit(1)):
            assert threads.submit(fail, error).exception(5) is error
        assert threads.submit(lambda: 1).result(5) == 1
        threads.shutdown()

    def test_a_shutdown_drops_queued_calls_and_waits_for_no_daemon(self) -> None:
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
        assert running.result(5) is True
