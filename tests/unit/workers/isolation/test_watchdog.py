"""A loop that gives no sign of life is noticed from outside, with the run that holds it and its stack."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from runyard_workers.isolation.loop_guard import LoopGuard
from runyard_workers.isolation.watchdog import Blocked, Watchdog
from tests.waiting import wait_until

pytestmark = pytest.mark.anyio


def _code_that_blocks(until: threading.Event) -> None:
    while not until.is_set():
        time.sleep(0.01)


async def test_a_run_that_blocks_the_loop_is_named_with_its_stack() -> None:
    guard, found, release = LoopGuard(), [], threading.Event()
    guard.install(asyncio.get_running_loop())

    def on_blocked(blocked: Blocked) -> None:
        found.append(blocked)
        release.set()

    watchdog = Watchdog(asyncio.get_running_loop(), guard, 0.4, on_blocked)
    watchdog.start()

    async def agent() -> None:
        _code_that_blocks(release)

    with guard.on_behalf_of("task-1"):
        running = asyncio.create_task(agent())
    await running
    (blocked,) = found
    assert blocked.run == "task-1"
    assert blocked.seconds >= 0.4
    assert "_code_that_blocks" in blocked.stack


class _ImportedFor:
    """Makes a module, `slow_module`, whose import goes on while `goes_on`."""

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        self._goes_on = goes_on

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "slow_module" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None: ...

    def exec_module(self, module: ModuleType) -> None:
        while self._goes_on():
            time.sleep(0.01)


async def _import(monkeypatch: pytest.MonkeyPatch, goes_on: Callable[[], bool]) -> None:
    monkeypatch.setattr(sys, "meta_path", [_ImportedFor(goes_on), *sys.meta_path])

    async def agent() -> None:
        import_module("slow_module")

    try:
        await asyncio.create_task(agent())
    finally:
        sys.modules.pop("slow_module", None)


async def test_an_import_that_takes_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Blocked] = []
    watchdog = Watchdog(asyncio.get_running_loop(), LoopGuard(), 0.2, found.append)
    watchdog.start()
    await _import(monkeypatch, lambda: watchdog.lag_s < 0.8 and not found)
    watchdog.stop()
    assert found == []


async def test_an_import_that_does_not_end_is_no_excuse_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Blocked] = []
    watchdog = Watchdog(asyncio.get_running_loop(), LoopGuard(), 0.2, found.append, import_seconds=0.6)
    watchdog.start()
    await _import(monkeypatch, lambda: not found)
    (blocked,) = found
    assert blocked.seconds >= 0.6
    assert "exec_module" in blocked.stack


async def test_a_loop_that_is_only_busy_is_left_alone_and_its_lag_is_reported() -> None:
    guard, found = LoopGuard(), []  # type: ignore[var-annotated]
    watchdog = Watchdog(asyncio.get_running_loop(), guard, 15.0, found.append)
    watchdog.start()
    async with asyncio.timeout(30):
        while watchdog.lag_s == 0.0:
            time.sleep(0.3)  # noqa: ASYNC251 - what a careless agent does
            await asyncio.sleep(0)
    watchdog.stop()
    assert found == []


async def test_a_pause_of_the_whole_process_is_no_fault_of_the_loop(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    guard, found = LoopGuard(), []  # type: ignore[var-annotated]
    watchdog = Watchdog(asyncio.get_running_loop(), guard, 1.0, found.append)
    clock = time.monotonic
    jump = [0.0]
    monkeypatch.setattr("runyard_workers.isolation.watchdog.time.monotonic", lambda: clock() + jump[0])
    watchdog.start()
    await asyncio.sleep(0.2)
    jump[0] = 3600.0  # as after SIGCONT, or a suspended machine
    await asyncio.sleep(0.5)
    watchdog.stop()
    await asyncio.to_thread(wait_until, lambda: not watchdog._thread.is_alive())
    assert found == []
