"""What the death of a quarantine process means for the runs in it (real processes: tests/acceptance/test_poison.py)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from runyard import Context
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.suspicion import Suspicion
from runyard_common.tables.query import Task
from runyard_scheduler.duties import Admit
from runyard_workers.quarantine import Quarantine
from tests.installation import Installation

pytestmark = pytest.mark.anyio


class Dying:
    """A process that dies with `status` once it has been sent `after` runs; `ready`: it had started before."""

    def __init__(self, status: int, after: int, *, ready: bool, executing: bool) -> None:
        self.status, self.after, self.ready, self.shows = status, after, ready, executing
        self.out_of_memory, self.alive = False, True
        self.runs: list[str] = []

    def __call__(
        self, loop: Any, lease: float, on_message: Callable[..., None], on_death: Callable[[], None]
    ) -> Dying:
        self.runs, self.alive = [], True
        self._loop, self._on_death = loop, on_death
        if self.ready:
            loop.call_soon(on_message, {"ready": True})
        return self

    def send(self, message: dict[str, Any]) -> None:
        if "run" in message:
            self.runs.append(message["run"])
            if len(self.runs) == self.after:
                self.alive = False
                self._loop.call_later(0.05, self._on_death)

    def executing(self) -> set[str]:
        return {self.runs[0]} if self.shows else set()

    def finish(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


async def _suspects(site: Installation, count: int) -> list[str]:
    async def never(ctx: Context, args: dict[str, Any]) -> None: ...

    name = site.publish(never)
    ids = [await site.submit(name) for _ in range(count)]
    site.transact(lambda tx: tx.conn.execute(update(Task).values(suspicion=int(Suspicion.SUSPECT))))
    return ids


async def test_a_process_that_did_not_start_blames_no_run_and_is_not_tried_without_end(
    database_url: str,
) -> None:
    async with Installation(database_url) as site:
        (task_id,) = await _suspects(site, 1)
        dying: Any = Dying(1, 1, ready=False, executing=True)
        await site.engine(quarantine=Quarantine(site.store, dying))
        async with asyncio.timeout(40):
            while site.task(task_id).finished_at is None:
                await asyncio.to_thread(Admit(site.store).run_once)
                await asyncio.sleep(0.02)
        task = site.task(task_id)
        assert task.error is not None
        assert (task.error["code"], task.error["cause"]) == ("no_progress", "infrastructure")
        assert "did not start" in task.error["message"]


async def test_the_run_it_was_executing_pays_and_the_others_go_on(database_url: str) -> None:
    async with Installation(database_url) as site:
        ids = await _suspects(site, 3)
        dying: Any = Dying(3, 3, ready=True, executing=True)
        await site.engine(quarantine=Quarantine(site.store, dying))
        guilty = await _first_failed(site, ids)
        assert guilty.error is not None
        assert (guilty.error["code"], guilty.error["details"]) == ("process_died", {"exit_code": 3})
        for task_id in set(ids) - {guilty.id}:
            task = site.task(task_id)
            assert (task.finished_at, task.retries) == (None, None)
            assert task.suspicion == Suspicion.SUSPECT


async def test_a_kill_from_outside_blames_no_run_that_had_company(database_url: str) -> None:
    async with Installation(database_url) as site:
        ids = await _suspects(site, 3)
        dying: Any = Dying(-signal.SIGKILL, 3, ready=True, executing=True)
        await site.engine(quarantine=Quarantine(site.store, dying))
        async with asyncio.timeout(50):
            while not any(site.task(id_).suspicion == Suspicion.ISOLATED for id_ in ids):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert all(site.task(id_).finished_at is None for id_ in ids)
        assert sum(site.task(id_).suspicion == Suspicion.ISOLATED for id_ in ids) == 1


async def _first_failed(site: Installation, ids: list[str]) -> Any:
    async with asyncio.timeout(50):
        while True:
            for task_id in ids:
                task = site.task(task_id)
                if task.status is Status.FAILED:
                    return task
            await asyncio.sleep(0.02)
