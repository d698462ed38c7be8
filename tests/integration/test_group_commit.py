"""Group commit: commands share transactions, and a caller that gives up harms no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store, Tx

pytestmark = pytest.mark.anyio


async def test_a_cancelled_caller_does_not_stop_the_commits_of_others(database_url: str) -> None:
    db = Database(database_url)
    await asyncio.to_thread(migrate.upgrade, db)
    writer = GroupCommit(Store(db))
    begun, go_on = threading.Event(), threading.Event()

    def wait(tx: Tx, commands: Sequence[int]) -> list[int]:
        begun.set()
        assert go_on.wait(10)
        return list(commands)

    def answer(tx: Tx, commands: Sequence[int]) -> list[int]:
        return list(commands)

    first = asyncio.create_task(writer.call(wait, 1))
    await asyncio.to_thread(begun.wait, 10)
    queued = asyncio.create_task(writer.call(answer, 2))
    await asyncio.sleep(0)
    for caller in (first, queued):
        caller.cancel()
    await asyncio.gather(first, queued, return_exceptions=True)
    go_on.set()
    assert await asyncio.wait_for(writer.call(answer, 3), 10) == 3
    await asyncio.to_thread(writer.close)
    db.close()
