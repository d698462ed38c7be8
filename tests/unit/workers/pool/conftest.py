"""A Celery application of the test's own, and pools that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, _state
from celery.app.trace import reset_worker_optimizations, setup_worker_optimizations

from runyard_workers.pool import AsyncioPool
from tests.unit.workers.pool.consumer import Consumer


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("unit", broker="memory://", set_as_current=False)
    app.conf.task_ignore_result = True
    shared = set(_state._on_app_finalizers)  # a task of one application is given to all that come after
    setup_worker_optimizations(app)
    yield app
    reset_worker_optimizations(app)
    _state._on_app_finalizers.clear()
    _state._on_app_finalizers.update(shared)


@pytest.fixture
def start(app: Celery) -> Iterator[Callable[..., Consumer]]:
    started: list[AsyncioPool] = []

    def start(limit: int = 2, **options: Any) -> Consumer:
        made = AsyncioPool(limit, app=app, **options)
        started.append(made)
        made.start()
        return Consumer(app, made)

    yield start
    for one in started:
        one.terminate()


@pytest.fixture
def receivers() -> Iterator[Callable[[Any, Any], None]]:
    connected: list[tuple[Any, Any]] = []

    def connect(signal: Any, receiver: Any) -> None:
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)
