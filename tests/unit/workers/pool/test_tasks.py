"""Coroutines and plain functions as Celery tasks in the pool: the tracer is real, the consumer a test's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import trace_task_ret
from celery.exceptions import ImproperlyConfigured

from runyard_workers.pool import (
    AsyncioPool,
    async_task,
)
from tests.unit.workers.pool.consumer import plain

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="nobody's")


class TestTasks:
    def test_a_coroutine_runs_on_the_loop_with_its_request(self, app: Celery, start: Any) -> None:
        seen: list[Any] = []

        @async_task(app, bind=True, name="whoami")
        async def whoami(self: Any, word: str) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append((self.request.id, word, asyncio.get_running_loop()))

        consumer = start()
        tickets = [consumer.send(whoami, word) for word in ("one", "two")]
        for ticket in tickets:
            ticket.wait()
            assert ticket.error is None
        ids = {word: task_id for task_id, word, _ in seen}
        assert len(set(seen)) == 2  # each saw only its own request, whatever ran between its steps
        assert len(set(ids.values())) == 2
        assert {loop for _, _, loop in seen} == {consumer.pool.loop}

    def test_a_plain_function_runs_in_a_thread(self, app: Celery, start: Any) -> None:
        names: list[str] = []
        task = plain(app, "plain", lambda: names.append(threading.current_thread().name))
        start().send(task).wait()
        assert names == ["celery-task-0"]

    def test_tasks_wait_at_the_same_time(self, app: Celery, start: Any) -> None:
        together = asyncio.Barrier(50)

        @async_task(app, name="meet")
        async def meet() -> None:
            await together.wait()

        consumer = start(50)
        for ticket in [consumer.send(meet) for _ in range(50)]:
            ticket.wait()
            assert ticket.error is None

    def test_one_task_may_call_another_in_place(self, app: Celery, start: Any) -> None:
        @async_task(app, name="inner")
        async def inner() -> str:
            await asyncio.sleep(0.001)
            return "inner"

        @async_task(app, name="outer")
        async def outer() -> str:
            return f"outer of {inner()}"

        assert start().send(outer).wait() == "'outer of inner'"

    def test_context_variables_come_from_the_consumer_and_stay_in_the_task(
        self, app: Celery, start: Any
    ) -> None:
        seen: list[str] = []

        @async_task(app, name="marks")
        async def marks() -> None:
            seen.append(MARK.get())
            token = MARK.set("mine")
            await asyncio.sleep(0)
            seen.append(MARK.get())
            MARK.reset(token)
            seen.append(MARK.get())

        consumer = start(1)
        mark = MARK.set("the consumer's")
        consumer.send(marks).wait()
        consumer.send(marks).wait()
        MARK.reset(mark)
        assert seen == ["the consumer's", "mine", "the consumer's"] * 2

    def test_an_async_task_also_runs_eagerly(self, app: Celery) -> None:
        @async_task(app, name="eager")
        async def eager(number: int) -> int:
            await asyncio.sleep(0)
            return number + 1

        assert eager.apply((1,)).get() == 2

    def test_the_signature_is_checked_by_the_caller(self, app: Celery) -> None:
        @async_task(app, bind=True, name="one_argument")
        async def one_argument(self: Any, number: int) -> None: ...

        with pytest.raises(TypeError, match="number"):
            one_argument.apply_async()

    def test_a_plain_function_is_no_async_task(self, app: Celery) -> None:
        with pytest.raises(TypeError, match=r"app\.task"):
            async_task(app)(lambda: None)  # type: ignore[arg-type,return-value]

    def test_a_coroutine_registered_as_a_plain_task_is_refused_at_the_start(self, app: Celery) -> None:
        @app.task(name="bare", autoretry_for=(ValueError,))  # type: ignore[untyped-decorator]
        async def bare() -> None: ...

        with pytest.raises(ImproperlyConfigured, match=r"bare.*async_task"):
            AsyncioPool(1, app=app).start()


class TestFailures:
    def test_an_exception_is_the_tracers_to_record(self, app: Celery, start: Any) -> None:
        @async_task(app, name="broken")
        async def broken() -> None:
            await asyncio.sleep(0)
            raise KeyError("why")

        ticket = start().send(broken)
        ticket.wait()
        assert repr(ticket.error) == "KeyError('why')"

    def test_a_cancellation_from_within_is_a_failure_and_not_silence(self, app: Celery, start: Any) -> None:
        @async_task(app, name="awaits_a_cancelled_future")
        async def awaits_a_cancelled_future() -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        ticket = start().send(awaits_a_cancelled_future)
        ticket.wait()
        assert "cancelled from within" in repr(ticket.error)

    @pytest.mark.parametrize("kind", ["coroutine", "thread", "background"])
    def test_a_system_exit_ends_the_task_and_not_the_worker(self, app: Celery, start: Any, kind: str) -> None:
        def leave() -> None:
            raise SystemExit(3)

        @async_task(app, name="coroutine")
        async def coroutine() -> None:
            await asyncio.sleep(0)
            leave()

        @async_task(app, name="background")
        async def background() -> None:
            asyncio.get_running_loop().call_soon(leave)
            await asyncio.sleep(0.01)

        tasks = {"coroutine": coroutine, "thread": plain(app, "thread", leave), "background": background}
        consumer = start(1)
        ticket = consumer.send(tasks[kind])
        ticket.wait()
        if kind != "background":
            assert "SystemExit(3)" in repr(ticket.error)
        assert consumer.send(plain(app, "next", lambda: "alive")).wait() == "'alive'"
        assert consumer.pool.did_start_ok()

    def test_a_callback_of_celery_that_fails_costs_no_slot(self, app: Celery, start: Any) -> None:
        task = plain(app, "fine", lambda: None)
        consumer = start(1)
        consumer.pool.apply_async(
            trace_task_ret,
            args=(task.name, "1", {"id": "1", "task": "fine", "delivery_info": {}}, ((), {}, {}), None, None),
            callback=lambda outcome: 1 / 0,
        )
        assert consumer.send(task).wait() == "None"
