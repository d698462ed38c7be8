"""A pool from start to drain."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import WorkerShutdown
from celery.worker import state as worker_state

from runyard_workers.pool import (
    AsyncioPool,
    PoolStartError,
    async_task,
    hub,
    loop_started,
    loop_stopping,
)
from tests.unit.workers.pool.consumer import plain, wait_until


class TestLife:
    def test_the_start_waits_for_receivers_on_the_loop(self, app: Celery, receivers: Any) -> None:
        seen: list[Any] = []

        def plain(loop: Any, pool: AsyncioPool, **_: Any) -> None:
            seen.append((asyncio.get_running_loop() is loop, AsyncioPool.current() is pool))

        async def slow(**_: Any) -> None:
            await asyncio.sleep(0.05)
            seen.append("slow")

        receivers(loop_started, plain)
        receivers(loop_started, slow)
        made = AsyncioPool(1, app=app)
        assert AsyncioPool.current() is None
        made.start()
        try:
            assert seen == [(True, True), "slow"]
        finally:
            made.terminate()
        assert AsyncioPool.current() is None
        assert not made.did_start_ok()

    def test_a_receiver_that_fails_stops_the_worker(self, app: Celery, receivers: Any) -> None:
        def broken(**_: Any) -> None:
            raise OSError("no database")

        receivers(loop_started, broken)
        made = AsyncioPool(1, app=app)
        with pytest.raises(PoolStartError, match="no database"):
            made.start()
        assert not made.did_start_ok()
        assert AsyncioPool.current() is None

    def test_a_start_that_hangs_can_be_stopped(
        self, app: Celery, receivers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hangs(**_: Any) -> None:
            monkeypatch.setattr(worker_state, "should_stop", 0)
            await asyncio.sleep(30)

        receivers(loop_started, hangs)
        with pytest.raises(WorkerShutdown):
            AsyncioPool(1, app=app).start()

    def test_a_start_that_imports_for_long_is_no_task_that_blocks_the_loop(
        self,
        app: Celery,
        receivers: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        done = threading.Event()

        def imports(**_: Any) -> None:
            monkeypatch.setattr(worker_state, "should_stop", 0)
            done.wait(30)

        receivers(loop_started, imports)
        monkeypatch.setattr("runyard_workers.pool.pool.COLD_SECONDS", 0.1)
        with caplog.at_level("INFO"), pytest.raises(WorkerShutdown):
            AsyncioPool(1, app=app).start()
        done.set()
        assert not [record for record in caplog.records if record.levelname == "CRITICAL"]
        assert "stopped before it had started" in caplog.text

    def test_a_warm_shutdown_finishes_running_tasks_and_leaves_waiting_ones(
        self, app: Celery, start: Any
    ) -> None:
        go = asyncio.Event()

        @async_task(app, name="finishes")
        async def finishes() -> str:
            await go.wait()
            return "finished"

        consumer = start(1)
        running, waiting = consumer.send(finishes), consumer.send(finishes)
        assert running.accepted.wait(5)
        consumer.pool.close()
        late = consumer.send(finishes)
        consumer.pool.loop.call_soon_threadsafe(go.set)
        consumer.pool.stop()
        assert running.wait() == "'finished'"
        assert not waiting.accepted.is_set()
        assert not late.accepted.is_set()
        assert not consumer.pool.has_room()

    def test_receivers_of_stopping_are_awaited_before_the_loop_ends(
        self, app: Celery, start: Any, receivers: Any
    ) -> None:
        seen: list[Any] = []

        async def hand_back(loop: Any, warm: bool, **_: Any) -> None:
            await asyncio.sleep(0.05)
            seen.append((asyncio.get_running_loop() is loop, warm))

        receivers(loop_stopping, hand_back)
        consumer = start()
        consumer.pool.close()
        consumer.pool.stop()
        assert seen == [(True, True)]
        assert consumer.pool.loop.is_closed()

    def test_the_grace_period_bounds_receivers_and_tasks(
        self, app: Celery, start: Any, receivers: Any
    ) -> None:
        ended: list[str] = []

        async def never(**_: Any) -> None:
            try:
                await asyncio.sleep(30)
            finally:
                ended.append("receiver")

        @async_task(app, name="never_ends")
        async def never_ends() -> None:
            try:
                await asyncio.sleep(30)
            finally:
                ended.append("task")

        receivers(loop_stopping, never)
        app.conf.runyard_drain_seconds = 0.1
        consumer = start()
        ticket = consumer.send(never_ends)
        assert ticket.accepted.wait(5)
        began = time.monotonic()
        consumer.pool.close()
        consumer.pool.stop()
        assert time.monotonic() - began < 2
        assert sorted(ended) == ["receiver", "task"]
        assert not ticket.over.is_set()

    def test_a_cold_shutdown_leaves_a_stuck_thread_behind(self, app: Celery, start: Any) -> None:
        stuck = threading.Event()
        consumer = start(1)
        ticket = consumer.send(plain(app, "stuck", lambda: stuck.wait(10)))
        assert ticket.accepted.wait(5)
        began = time.monotonic()
        consumer.pool.terminate()
        assert time.monotonic() - began < 1
        assert not ticket.over.is_set()
        stuck.set()

    def test_a_cold_shutdown_amid_a_warm_one_ends_it(
        self, app: Celery, start: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @async_task(app, name="long")
        async def long() -> None:
            await asyncio.sleep(30)

        consumer = start(1)
        assert consumer.send(long).accepted.wait(5)
        nested: list[float] = []

        def quit_signal() -> None:  # what Celery's SIGQUIT handler does, in the middle of the wait
            if not nested:
                nested.append(time.monotonic())
                worker_state.should_terminate = True
                consumer.pool.stop()

        monkeypatch.setattr(worker_state, "should_terminate", None)
        monkeypatch.setattr(hub, "pump", quit_signal)
        consumer.pool.stop()
        assert time.monotonic() - nested[0] < 1
        assert not consumer.pool.did_start_ok()

    def test_background_coroutines_clean_up_when_the_loop_ends(self, start: Any) -> None:
        cleaned: list[str] = []

        async def background() -> None:
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0)
                cleaned.append("up")

        consumer = start()
        asyncio.run_coroutine_threadsafe(background(), consumer.pool.loop)
        wait_until(lambda: asyncio.all_tasks(consumer.pool.loop))
        consumer.pool.stop()
        assert cleaned == ["up"]
