"""The application that workers of `test_celery_worker` serve: Runyard's own, with an engine that only takes notes."""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace
from typing import Any

import redis

from runyard_common.broker.application import application
from runyard_common.environment import load
from runyard_common.settings import Settings
from runyard_workers import bootstep, tasks
from runyard_workers.slots import Slots

NOTES = os.environ.get("WORKER_TEST_NOTES", "redis://")


def note(what: str) -> None:
    with redis.Redis.from_url(NOTES) as notes:
        notes.rpush("notes", what)


class NotedRuntime:
    """Its runs are as many slots as the key `hold` has, and its drain takes the seconds of the key `drain`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.leaving = False
        self.engine = SimpleNamespace(wake_threadsafe=lambda: note("woken"))
        self.deliverer = SimpleNamespace(wake_threadsafe=lambda: note("delivered"))

    async def start(self, slots: Slots, threads: Any) -> None:
        self.slots = slots
        note(f"started with {slots.limit}")
        self._holding = asyncio.ensure_future(self._hold_slots())

    async def _hold_slots(self) -> None:
        with redis.Redis.from_url(NOTES) as notes:
            while True:
                wanted: Any = notes.get("hold")
                more = int(wanted or 0) - self.slots.in_use
                if more > 0:
                    self.slots.occupy(more)
                    note("taken")
                elif more < 0:
                    self.slots.release(-more)
                await asyncio.sleep(0.02)

    async def stop(self, seconds: float) -> None:
        with redis.Redis.from_url(NOTES) as notes:
            drain: Any = notes.get("drain")
            if notes.get("block"):
                time.sleep(float(drain))  # noqa: ASYNC251 - a run that blocks the loop
        note(f"drain of {seconds:g} s")
        await asyncio.sleep(float(drain or 0))
        note("drained")


settings = load()
app = application(settings)
runtime: Any = NotedRuntime(settings)
tasks.register(app, runtime)
bootstep.register(app, runtime)
