"""Group commit: commands share transactions, and a caller that gives up harms no other."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store, Tx
from tests import databases

pytestmark = pytest.mark.anyio


async def test_a_cancelled_caller_does_not_stop_the_commits_of_others(database_url: str) -> None:
    db = Database(database_url)
    await asyncio.to_thread(migrate.upgrade, db)
    writer = GroupCommit(Store(db))
    begun, go_on = threading.Event(), threading.Event()

    def wait(tx: Tx, commands: Sequence[int]) -> list[int]:
        begun.set()
        assert go_on.wait(50)
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
    assert await asyncio.wait_for(writer.call(answer, 3), 50) == 3
    await asyncio.to_thread(writer.close)
    db.close()


async def test_a_loop_is_woken_once_for_all_answers_of_a_transaction(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(database_url)
    await asyncio.to_thread(migrate.upgrade, db)
    writer = GroupCommit(Store(db))
    begun, go_on = threading.Event(), threading.Event()

    def wait(tx: Tx, commands: Sequence[int]) -> list[int]:
        begun.set()
        assert go_on.wait(50)
        return list(commands)

    def answer(tx: Tx, commands: Sequence[int]) -> list[int | ValueError]:
        return [ValueError(n) if n == 7 else n for n in commands]

    first = writer.ask(wait, 0)
    await asyncio.to_thread(begun.wait, 10)
    others = [writer.ask(answer, n) for n in range(20)]
    woken = 0
    loop = asyncio.get_running_loop()
    call_soon_threadsafe = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> asyncio.Handle:
        nonlocal woken
        woken += 1
        return call_soon_threadsafe(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    go_on.set()
    found = await asyncio.gather(first.future, *(one.future for one in others), return_exceptions=True)
    assert [n for n in found if isinstance(n, int)] == [0, *(n for n in range(20) if n != 7)]
    assert [str(error) for error in found if isinstance(error, ValueError)] == ["7"]
    assert woken == 2  # by the first transaction, and by that of the others
    monkeypatch.undo()
    await asyncio.to_thread(writer.close)
    db.close()


async def test_what_is_asked_with_the_next_shares_its_transaction_and_is_done_without_one_too(
    database_url: str,
) -> None:
    db = Database(database_url)
    await asyncio.to_thread(migrate.upgrade, db)
    writer = GroupCommit(Store(db))

    def first(tx: Tx, commands: Sequence[int]) -> list[int]:
        return [id(tx)] * len(commands)

    def second(tx: Tx, commands: Sequence[int]) -> list[int]:
        return [id(tx)] * len(commands)

    for _ in range(50):  # the thread sleeps each time, and wakes with what comes first
        companion = writer.ask_with_next(first, 1)
        assert await writer.call(second, 2) == await companion.future
    assert await asyncio.wait_for(writer.ask_with_next(first, 3).future, 50)
    await asyncio.to_thread(writer.close)
    db.close()


async def test_on_sqlite_its_transactions_have_a_connection_of_their_own(tmp_path: Path) -> None:
    db = databases.opened(f"sqlite:///{tmp_path / 'runyard.db'}")
    writer = GroupCommit(Store(db))

    def connection(tx: Tx, commands: Sequence[str]) -> list[sqlite3.Connection]:
        driver: Any = tx.conn.connection.driver_connection
        if commands == ["close"]:
            driver.close()
        if commands == ["fail"]:
            raise ValueError("failed")
        return [driver]

    own = await writer.call(connection, "")
    with db.read() as reader, db.begin() as other:
        assert own not in {reader.connection.driver_connection, other.connection.driver_connection}
    assert await writer.call(connection, "") is own
    with pytest.raises(DBAPIError):  # its COMMIT fails
        await writer.call(connection, "close")
    replaced = await writer.call(connection, "")
    assert replaced is not own
    with pytest.raises(ValueError, match="failed"):
        await writer.call(connection, "fail")
    await writer.call(connection, "")
    assert db.engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    await asyncio.to_thread(writer.close)
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    db.close()
