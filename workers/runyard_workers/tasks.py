"""Celery tasks: decode a doorbell, tell the engine. A message never says what is to be done."""

from __future__ import annotations

from typing import Any

from celery import Celery

from runyard_common.broker.application import DELIVER, FORMAT, WAKE
from runyard_workers.pool import async_task
from runyard_workers.runtime import Runtime


def register(app: Celery, runtime: Runtime) -> None:
    """Give the application its tasks."""

    @async_task(app, name=WAKE, ignore_result=True)
    async def wake(version: int = FORMAT, *_: Any, **__: Any) -> None:
        """Runs wait to be claimed."""
        if runtime.engine is not None:
            runtime.engine.wake()

    @async_task(app, name=DELIVER, ignore_result=True)
    async def deliver(version: int = FORMAT, *_: Any, **__: Any) -> None:
        """Callbacks are due."""
        if runtime.deliverer is not None:
            runtime.deliverer.wake()
