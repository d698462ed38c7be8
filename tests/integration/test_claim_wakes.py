"""What makes a worker claim: wake-ups are fast, and no lost one costs more than seconds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from runyard import Context
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import submissions
from runyard_workers import engine as engine_module
from runyard_workers.engine import LOOK_EVERY
from tests.installation import Installation
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def _noop(ctx: Context, args: dict[str, Any]) -> float:
    return time.monotonic()


@pytest.mark.postgres
async def test_a_claim_that_met_locked_rows_looks_again_at_once(
    migrated_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    claim_once = engine_module.Engine._claim_once

    async def noted(self: engine_module.Engine) -> bool:
        looks.append(more := await claim_once(self))
        return more

    monkeypatch.setattr(engine_module.Engine, "_claim_once", noted)
    monkeypatch.setattr(engine_module, "LOOK_EVERY", 3600.0)
    url = migrated_database().replace("postgresql://", "postgresql+psycopg://", 1)
    async with Installation(url, lease_seconds=3600.0) as site:
        name = site.publish(_noop)
        ids = [await site.submit(name) for _ in range(3)]
        locked, release = threading.Event(), threading.Event()

        def lock() -> None:  # as an admission of another process does
            other = Database(url)
            with other.begin() as conn:
                conn.execute(text("SELECT id FROM tasks FOR UPDATE"))
                locked.set()
                release.wait(60)
            other.close()

        locking = asyncio.create_task(asyncio.to_thread(lock))
        await asyncio.to_thread(locked.wait, 30)
        engine = await site.engine()  # its first claim meets locked rows only
        await until(lambda: len(looks) > 1)  # it has looked again, and no other wake-up comes
        assert engine.running == 0
        release.set()
        for task_id in ids:
            await site.ended(task_id)
        await locking


async def test_an_idle_worker_finds_work_without_a_wake_up(database_url: str) -> None:
    async with Installation(database_url) as site:
        name = site.publish(_noop)
        await site.engine()
        await asyncio.sleep(0.2)
        spec = site.spec(name)
        db = Database(database_url)  # another process, whose wake-up is lost with the broker

        def submit() -> None:
            with Store(db).begin() as tx:
                submissions.submit(tx, [spec])

        await asyncio.to_thread(submit)
        task = await site.until(spec.task_id, Status.COMPLETED, seconds=LOOK_EVERY + 10)
        assert task.attempt == 1
        db.close()
