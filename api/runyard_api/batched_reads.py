"""Reads of the database: concurrent ones share a thread hop and a snapshot, so a thousand cost as few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.values.errors import Unavailable

A = TypeVar("A")
R = TypeVar("R")
#: Answers several reads of one kind, in their order; an exception among the answers is its reader's alone.
Batch = Callable[[Connection, Sequence[A]], Sequence[R]]
_Job = tuple[Any, "asyncio.Future[Any]"]

_MOST = 200  # reads in one snapshot
#: A batch that takes longer, in seconds, is not waited for by the next one of its kind.
_LONG: Final = 0.01

#: How long a request waits for a database that has fallen silent, in seconds; while it is known to be silent,
#: the shorter time. A slow database that answers is waited for up to its own statement limit.
PATIENCE: Final = 5.0
SILENT_PATIENCE: Final = 1.0
LONGEST: Final = 60.0


def unavailable(detail: str = "") -> Unavailable:
    """The refusal of a request that the database did not answer in time."""
    message = f"The database does not answer. {detail}".strip()
    return Unavailable(message, code="database_unavailable", retry_after=2)


async def in_time(db: Database, future: asyncio.Future[R]) -> R:
    """What `future` gives. Raises `Unavailable` when the database is silent, though a thread still waits for it.

    The future is cancelled then: what has not begun does not begin.
    """
    watch = _Watch(db, future)
    try:
        return await future
    except asyncio.CancelledError:
        if watch.gave_up:
            raise unavailable() from None
        raise
    finally:
        watch.stop()
        future.cancel()  # does nothing to one that is done


class _Watch:
    """Cancels a future of a silent database."""

    def __init__(self, db: Database, future: asyncio.Future[Any]) -> None:
        self.gave_up = False
        self._db, self._future = db, future
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer = self._loop.call_later(SILENT_PATIENCE if db.silent else PATIENCE, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._db.silent or self._loop.time() - self._began > LONGEST:
            self.gave_up = self._future.cancel()
        else:
            self._timer = self._loop.call_later(SILENT_PATIENCE, self._look)


class Reader:
    """Runs reads on a few threads. Belongs to one event loop."""

    def __init__(self, store: Store, threads: int = 4) -> None:
        self._store = store
        self.db = store.db
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._free = threads
        self._waiting: dict[Batch[Any, Any], list[_Job]] = {}
        self._under_way: dict[Batch[Any, Any], float] = {}  # until when each kind waits for its last batch
        self._later: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._running: set[asyncio.Task[None]] = set()

    async def one(self, read: Callable[[Connection], R]) -> R:
        """Run one read in a snapshot of its own. Raises `Unavailable` when the database is silent."""
        loop = asyncio.get_running_loop()
        return await in_time(self._store.db, loop.run_in_executor(self._pool, self._in_snapshot, read))

    async def call(self, batch: Callable[[Connection, Sequence[A]], Sequence[R]], argument: A) -> R:
        """Run one read together with the waiting ones of its kind.

        While a batch of the kind is on a thread the next one gathers: few large ones cost less than many small ones.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.setdefault(batch, []).append((argument, future))
        if not self._scheduled and self._free:
            self._scheduled = True
            loop.call_soon(self._dispatch)
        return await in_time(self._store.db, future)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _in_snapshot(self, read: Callable[[Connection], R]) -> R:
        with self._store.read() as conn:
            return read(conn)

    def _dispatch(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        while self._free and (batch := self._due(loop.time())) is not None:
            jobs = [job for job in self._waiting.pop(batch) if not job[1].done()]
            if not jobs:
                continue
            if len(jobs) > _MOST:
                self._waiting[batch] = jobs[_MOST:]
            self._free -= 1
            self._under_way[batch] = loop.time() + _LONG
            task = loop.create_task(self._run(batch, jobs[:_MOST]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _due(self, now: float) -> Batch[Any, Any] | None:
        """The kind whose turn it is; None where all wait for the batches before, which a timer bounds."""
        if not self._waiting:
            return None
        for batch in self._waiting:
            if self._under_way.get(batch, 0.0) <= now:
                return batch
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(_LONG, self._look_again)
        return None

    def _look_again(self) -> None:
        self._later = None
        self._dispatch()

    async def _run(self, batch: Batch[Any, Any], jobs: list[_Job]) -> None:
        arguments = [argument for argument, _ in jobs]
        try:
            answers: Sequence[Any] = await self.one(lambda conn: batch(conn, arguments))
        except Exception as error:  # noqa: BLE001 - every reader of the batch gets it
            answers = [error] * len(jobs)
        finally:
            self._free += 1
            self._under_way.pop(batch, None)
            self._dispatch()
        for (_, future), answer in zip(jobs, answers, strict=True):
            if future.done():
                continue  # its reader has gone
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
