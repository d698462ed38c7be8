"""Time limits and revocation in the pool."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from celery import Celery, Task
from celery.app.trace import build_tracer, trace_task_ret

from runyard_workers.pool import (
    async_task,
    job,
)
from tests.unit.workers.pool.consumer import Ticket, plain, wait_until


def recording(told: list[str]) -> type[Task]:
    """A task class that notes the outcomes which Celery's tracer records."""

    class Recording(Task):  # type: ignore[misc]
        def on_success(self, *_: Any) -> None:
            told.append("success")

        def on_failure(self, *_: Any) -> None:
            told.append("failure")

    return Recording


class TestLimits:
    def test_a_soft_limit_cancels_inside_and_fails_outside(self, app: Celery, start: Any) -> None:
        events: list[str] = []

        async def child() -> None:
            try:
                await asyncio.sleep(30)
            finally:
                events.append("child cleaned up")

        @async_task(app, name="slow")
        async def slow() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())

        ticket = start().send(slow, soft_timeout=0.05)
        ticket.wait()
        assert "SoftTimeLimitExceeded" in repr(ticket.error)
        assert events == ["child cleaned up"]
        assert ticket.limits == [(True, 0.05)]

    def test_a_task_may_finish_in_spite_of_its_soft_limit(self, app: Celery, start: Any) -> None:
        @async_task(app, name="winds_up")
        async def winds_up() -> str:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                return "partial"
            return "never"

        assert start().send(winds_up, soft_timeout=0.05).wait() == "'partial'"

    def test_a_timeout_of_the_tasks_own_is_no_soft_limit(self, app: Celery, start: Any) -> None:
        @async_task(app, name="own_timeout")
        async def own_timeout() -> None:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)

        ticket = start().send(own_timeout, soft_timeout=20)
        ticket.wait()
        assert isinstance(ticket.error, TimeoutError)
        assert ticket.limits == []

    def test_at_a_hard_limit_celery_hears_the_limit_and_no_result(self, app: Celery, start: Any) -> None:
        done: list[str] = []

        @async_task(app, name="endless", base=recording(done))
        async def endless() -> str:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                done.append("cancelled")
            return "a result after the end"

        consumer = start(1)
        ticket = consumer.send(endless, timeout=0.05)
        wait_until(lambda: not consumer.pool.info["tasks"])
        assert ticket.limits == [(False, 0.05)]
        assert done == ["cancelled"]
        assert not ticket.over.is_set()

    def test_a_coroutine_that_swallows_its_cancellation_is_closed(
        self, app: Celery, start: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job, "CLEANUP_SECONDS", 0.05)
        cancelled: list[str] = []

        @async_task(app, name="stubborn")
        async def stubborn() -> None:
            try:
                while True:
                    try:
                        await asyncio.sleep(30)
                    except asyncio.CancelledError:
                        cancelled.append("swallowed")
            finally:
                cancelled.append("closed")

        consumer = start(1)
        consumer.send(stubborn, timeout=0.05)
        wait_until(lambda: not consumer.pool.slots.in_use and consumer.pool.info["tasks"] == 0)
        assert cancelled == ["swallowed", "closed"]

    def test_a_revoked_task_says_no_more(self, app: Celery, start: Any) -> None:
        told: list[str] = []

        @async_task(app, name="fails_on_its_way_out", base=recording(told))
        async def fails_on_its_way_out() -> None:
            try:
                await asyncio.sleep(30)
            finally:
                raise ValueError("too late")

        consumer = start(1)
        ticket = consumer.send(fails_on_its_way_out)
        assert ticket.accepted.wait(5)
        ticket.job.terminate(15)
        wait_until(lambda: not consumer.pool.slots.in_use)
        assert not ticket.over.is_set()
        assert told == []  # the record says revoked, and stays so

    def test_a_task_revoked_by_its_own_acceptance_never_begins(self, app: Celery, start: Any) -> None:
        began: list[int] = []

        @async_task(app, name="begins")
        async def begins() -> None:
            began.append(1)

        consumer = start(1)
        ticket = Ticket()
        ticket.on_accepted = lambda *_: ticket.job.terminate(15)  # type: ignore[method-assign]
        blocker = consumer.send(plain(app, "blocker", lambda: time.sleep(0.1)))
        assert blocker.accepted.wait(5)
        begins.__trace__ = build_tracer("begins", begins, app=app)
        ticket.job = consumer.pool.apply_async(
            trace_task_ret,
            args=(
                "begins",
                "1",
                {"id": "1", "task": "begins", "delivery_info": {}},
                ((), {}, {}),
                None,
                None,
            ),
            accept_callback=ticket.on_accepted,
        )
        wait_until(lambda: not consumer.pool.info["tasks"])
        assert began == []

    def test_a_task_revoked_while_it_waits_is_accepted_so_that_its_message_is_settled(
        self, app: Celery, start: Any
    ) -> None:
        go = threading.Event()
        began: list[int] = []
        consumer = start(1)
        blocker = consumer.send(plain(app, "blocker", lambda: go.wait(5)))
        assert blocker.accepted.wait(5)
        waiting = consumer.send(plain(app, "waiting", lambda: began.append(1)))
        assert not waiting.accepted.is_set()
        waiting.job.terminate(15)
        assert waiting.accepted.wait(5)
        go.set()
        blocker.wait()
        assert began == []
        assert not waiting.over.is_set()

    def test_limits_of_plain_functions_are_warned_about_once(
        self, app: Celery, start: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = plain(app, "plain", lambda: None)
        consumer = start(1)
        for _ in range(2):
            consumer.send(task, soft_timeout=10).wait()
        warnings = [record for record in caplog.records if "limits are not kept" in record.getMessage()]
        assert len(warnings) == 1
        assert "plain" in warnings[0].getMessage()
