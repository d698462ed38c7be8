"""A loop that gives no sign of life is noticed from outside, with the run that holds it and its stack."""

from __future__ import annotations

import asyncio
import threading
import time

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


async def test_a_loop_that_is_only_busy_is_left_alone_and_its_lag_is_reported() -> None:
    guard, found = LoopGuard(), []  # type: ignore[var-annotated]
    watchdog = Watchdog(asyncio.get_running_loop(), guard, 2.0, found.append)
    watchdog.start()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        time.sleep(0.3)  # noqa: ASYNC251 - what a careless agent does
        await asyncio.sleep(0)
    assert watchdog.lag_s > 0.0
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
