"""Concurrent reads of one kind share a thread and a snapshot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from runyard_api.batched_reads import Reader
from runyard_common.database.transaction import Store
from tests import databases


class Slow:
    """A kind of read that notes its batches, and takes until it is let go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = asyncio.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self._loop = asyncio.get_running_loop()

    def __call__(self, _conn: Connection, asked: Sequence[int]) -> list[int]:
        self.batches.append(list(asked))
        self._loop.call_soon_threadsafe(self.began.release)
        assert self.go_on.acquire(timeout=30)
        return list(asked)


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    db = databases.opened(f"sqlite:///{tmp_path / 'runyard.db'}")
    opened = Reader(Store(db))
    yield opened
    opened.close()
    db.close()


@pytest.mark.anyio
async def test_reads_that_come_meanwhile_are_one_batch(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard_api.batched_reads._LONG", 60.0)
    slow = Slow()
    first = asyncio.create_task(reader.call(slow, 0))
    await slow.began.acquire()
    others: list[asyncio.Task[int]] = []
    for number in range(1, 10):
        others.append(asyncio.create_task(reader.call(slow, number)))
        for _ in range(5):
            await asyncio.sleep(0)  # each comes in a step of the loop of its own
    slow.go_on.release()
    assert await first == 0
    slow.go_on.release()
    assert await asyncio.gather(*others) == [*range(1, 10)]
    assert slow.batches == [[0], [*range(1, 10)]]


@pytest.mark.anyio
async def test_a_long_read_keeps_no_other_of_its_kind_waiting(reader: Reader) -> None:
    slow = Slow()
    first = asyncio.create_task(reader.call(slow, 0))
    await slow.began.acquire()
    second = asyncio.create_task(reader.call(slow, 1))
    await asyncio.wait_for(slow.began.acquire(), 30)  # while the first is under way
    slow.go_on.release(2)
    assert list(await asyncio.gather(first, second)) == [0, 1]


@pytest.mark.anyio
async def test_a_read_of_another_kind_does_not_wait(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runyard_api.batched_reads._LONG", 60.0)
    slow, other = Slow(), Slow()
    other.go_on.release()
    first = asyncio.create_task(reader.call(slow, 0))
    await slow.began.acquire()
    assert await asyncio.wait_for(reader.call(other, 1), 30) == 1
    slow.go_on.release()
    assert await first == 0
