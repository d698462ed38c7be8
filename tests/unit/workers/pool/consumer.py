"""Celery's consumer as a test plays it: hands requests to a pool and notes what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.trace import build_tracer, trace_task_ret

from runyard_workers.pool import AsyncioPool


def wait_until(condition: Callable[[], Any], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def plain(app: Celery, name: str, function: Callable[[], Any]) -> Any:
    """A task that is no coroutine."""

    def run() -> Any:
        return function()

    return app.task(run, name=name)


class Ticket:
    """A request as Celery makes it, and what the pool told it."""

    def __init__(self) -> None:
        self.accepted = threading.Event()
        self.over = threading.Event()
        self.result: Any = None
        self.error: Any = None
        self.limits: list[tuple[bool, float]] = []
        self.job: Any = None

    def on_accepted(self, pid: int, moment: float) -> None:
        self.accepted.set()

    def on_success(self, outcome: tuple[int, Any, float]) -> None:
        failed, self.result, _ = outcome
        if failed:
            self.error = self.result.exception
        self.over.set()

    def on_failure(self, info: Any) -> None:
        self.error = info.exception.exc
        self.over.set()

    def on_timeout(self, soft: bool, seconds: float) -> None:
        self.limits.append((soft, seconds))

    def wait(self) -> Any:
        assert self.over.wait(5), "Celery was told nothing"
        return self.result


class Consumer:
    """Hands requests to a pool, as Celery's consumer does."""

    def __init__(self, app: Celery, pool_: AsyncioPool) -> None:
        self.app, self.pool = app, pool_

    def send(self, task: Any, *args: Any, **limits: float) -> Ticket:
        if task.__trace__ is None:
            task.__trace__ = build_tracer(task.name, task, app=self.app)
        ticket = Ticket()
        headers = {"id": f"{task.name}-{id(ticket)}", "task": task.name, "delivery_info": {}}
        ticket.job = self.pool.apply_async(
            trace_task_ret,
            args=(task.name, headers["id"], headers, (args, {}, {}), None, None),
            accept_callback=ticket.on_accepted,
            callback=ticket.on_success,
            error_callback=ticket.on_failure,
            timeout_callback=ticket.on_timeout,
            correlation_id=headers["id"],
            **limits,
        )
        return ticket
