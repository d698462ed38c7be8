"""The step of a Celery worker that starts the engine and drains it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown
from celery.worker import state

from runyard_workers import bootstep
from runyard_workers.bootstep import EngineStep


class Engine:
    """A runtime that starts and drains as a test asks."""

    def __init__(self, start: Callable[[], Any] | None = None, drain_seconds: float = 5.0) -> None:
        self.settings = SimpleNamespace(drain_seconds=drain_seconds)
        self._start = start
        self.drains: list[float] = []
        self.leaving = False
        self.seconds = 0.0

    async def start(self, slots: Any, threads: Any) -> None:
        self.slots, self.loop = slots, asyncio.get_running_loop()
        if self._start is not None and (wait := self._start()) is not None:
            await wait

    async def stop(self, seconds: float) -> None:
        self.drains.append(seconds)
        await asyncio.sleep(self.seconds)


def worker(engine: Engine) -> Any:
    """What the step sees of a worker."""
    consumer = SimpleNamespace(call_soon=lambda call: call(), deliver_parked=lambda: None, has_free_slot=None)
    return SimpleNamespace(
        app=SimpleNamespace(runyard_runtime=engine), consumer=consumer, concurrency=2, max_concurrency=None,
        exitcode=None, pool=SimpleNamespace(info={"implementation": "solo", "max-concurrency": 1}),
    )  # fmt: skip


def step_of(celery: Any) -> EngineStep:
    """A step that leaves this process alone when the drain is over."""
    return EngineStep(celery, end_process=lambda code: None)


def test_the_consumer_takes_wake_ups_while_a_slot_is_free_and_none_in_a_drain() -> None:
    engine = Engine()
    celery = worker(engine)
    step = step_of(celery)
    assert step.info(celery) == {}
    step.start(celery)
    assert celery.consumer.has_free_slot()
    engine.slots.occupy(2)
    assert not celery.consumer.has_free_slot()
    assert step.info(celery)["pool"] == {"implementation": "solo", "max-concurrency": 2, "slots-in-use": 2}
    engine.slots.release()
    assert celery.consumer.has_free_slot()
    engine.leaving = True  # its runs go on, and it claims nothing more
    assert not celery.consumer.has_free_slot()
    engine.leaving = False
    step.close(celery)
    assert not celery.consumer.has_free_slot()
    step.stop(celery)
    assert engine.drains == [3.0]
    assert engine.loop.is_closed()


def test_a_start_that_fails_ends_the_worker() -> None:
    def broken() -> None:
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        step_of(worker(Engine(broken))).start(worker(Engine(broken)))


def test_a_start_that_hangs_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs() -> Any:
        monkeypatch.setattr(state, "should_stop", 0)
        return asyncio.sleep(30)

    engine = Engine(hangs)
    step = step_of(worker(engine))
    with pytest.raises(WorkerShutdown):
        step.start(worker(engine))
    step.stop(worker(engine))
    assert engine.drains == []


def test_a_start_that_imports_for_long_is_no_run_that_blocks_the_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = threading.Event()

    def imports() -> None:
        monkeypatch.setattr(state, "should_stop", 0)
        done.wait(30)

    monkeypatch.setattr(bootstep, "COLD_SECONDS", 0.1)
    with pytest.raises(WorkerShutdown):
        step_of(worker(Engine(imports))).start(worker(Engine(imports)))
    done.set()
    assert "stopped before it had started" in capsys.readouterr().out


def test_the_grace_period_bounds_the_drain_and_what_still_runs() -> None:
    ended: list[str] = []
    begun = threading.Event()

    async def run() -> None:
        begun.set()
        try:
            await asyncio.sleep(300)
        finally:
            await asyncio.sleep(0)
            ended.append("run")

    engine = Engine(drain_seconds=0.2)
    engine.seconds = 30
    celery = worker(engine)
    step = step_of(celery)
    step.start(celery)
    asyncio.run_coroutine_threadsafe(run(), engine.loop)
    assert begun.wait(30)
    began = time.monotonic()
    step.close(celery)
    step.stop(celery)
    assert time.monotonic() - began < 25  # the drain would take 30 s
    assert ended == ["run"]


def test_a_cold_shutdown_amid_a_warm_one_cuts_it_short(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(drain_seconds=30)
    engine.seconds = 30
    celery = worker(engine)
    step = step_of(celery)
    step.start(celery)
    monkeypatch.setattr(bootstep, "COLD_SECONDS", 0.2)
    monkeypatch.setattr(state, "should_terminate", None)
    threading.Timer(0.2, lambda: monkeypatch.setattr(state, "should_terminate", True)).start()
    began = time.monotonic()
    step.stop(celery)
    assert time.monotonic() - began < 25  # the drain would take 30 s


def test_a_signal_drains_and_ends_a_process_whose_main_thread_waits_for_its_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstep, "END_SECONDS", 0.1)
    codes: list[int] = []
    ended = threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    engine = Engine()
    celery = worker(engine)
    step = EngineStep(celery, end_process=end)
    step.start(celery)
    step._on_signal(sig="SIGTERM", how="Warm", exitcode=0)
    step._on_signal(sig="SIGTERM", how="Warm", exitcode=0)
    assert ended.wait(50)
    assert (engine.drains, codes) == ([3.0], [0])
    step.stop(celery)
