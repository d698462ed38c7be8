"""Celery tasks: wake-ups for the engine and the deliverer. Celery runs them on the main thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery

from runyard_common.broker.application import DELIVER, FORMAT, WAKE

if TYPE_CHECKING:
    from runyard_workers.runtime import Runtime


def register(app: Celery, runtime: Runtime) -> None:
    """Give the application its tasks."""

    @app.task(name=WAKE, ignore_result=True)  # type: ignore[untyped-decorator]
    def wake(version: int = FORMAT, *_: Any, **__: Any) -> None:
        """Runs wait to be claimed."""
        if runtime.engine is not None:
            runtime.engine.wake_threadsafe()

    @app.task(name=DELIVER, ignore_result=True)  # type: ignore[untyped-decorator]
    def deliver(version: int = FORMAT, *_: Any, **__: Any) -> None:
        """Callbacks are due."""
        if runtime.deliverer is not None:
            runtime.deliverer.wake_threadsafe()
