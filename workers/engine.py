"""The engine of a worker process: claims tasks for its free slots, runs each as a coroutine, drains.

A doorbell message, a freed slot after a full claim, or a stop of the world wakes it; one claim takes as many
tasks as there are free slots. It lives on the pool's event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from common.domain.ids import uuid7
from common.services import attempts
from common.services.claims import Claim, Claimed, LeaseLost, claim
from common.store import workers
from common.store.group_commit import GroupCommit
from common.store.transaction import Store
from workers.attempt import Attempt
from workers.executor import execute
from workers.failures import classify
from workers.heartbeat import Heartbeat

logger = structlog.get_logger("runyard.engine")

#: Most tasks one claim takes: enough to spread a commit's cost, few enough to start the first soon.
CLAIM_AT_MOST = 128


class Slots(Protocol):
    """The worker's free places (`workers.pool.Slots`)."""

    @property
    def free(self) -> int:
        """Slots nobody holds."""

    def take(self, wanted: int) -> int:
        """Take up to `wanted` slots; how many were free."""

    def release(self, count: int = 1) -> None:
        """Give slots back."""


class Engine:
    """Create it on the loop, `start()` it, `drain()` it."""

    def __init__(
        self,
        store: Store,
        writer: GroupCommit,
        slots: Slots,
        capacity: int,
        lease_seconds: float,
        attempt_of: Callable[[Claimed], Awaitable[tuple[Attempt, Any]]],
    ) -> None:
        self._store = store
        self._writer = writer
        self._slots = slots
        self._capacity = capacity
        self._lease = lease_seconds
        self._attempt_of = attempt_of
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._hungry = False  # the last claim came back full: there may be more
        self._attempts: dict[str, Attempt] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._draining = False
        self._orphans: dict[str, int] = {}
        self._claimer: asyncio.Task[None] | None = None
        self._beat: Heartbeat | None = None
        self.worker_id = ""
        self.on_enlisted: Callable[[str], None] = lambda worker_id: None

    async def start(self) -> None:
        """Enlist this process and begin to claim."""
        await self._enlist()
        self._claimer = self._loop.create_task(self._claim_forever(), name="claimer")
        self.wake()

    def wake(self) -> None:
        """Work waits. Call it on the loop."""
        self._wanted.set()

    def wake_threadsafe(self) -> None:
        """Work waits. Call it from any thread."""
        self._loop.call_soon_threadsafe(self._wanted.set)

    @property
    def running(self) -> int:
        """Runs under way."""
        return len(self._runs)

    def stop_run(self, task_id: str, why: str = "stop") -> None:
        """End one run here; its task has been taken away already. Call it on the loop."""
        attempt, run = self._attempts.get(task_id), self._runs.get(task_id)
        if attempt is not None and run is not None and attempt.ended_by is None:
            attempt.ended_by = why
            run.cancel()

    async def drain(self, seconds: float) -> None:
        """Claim no more; let runs reach their next step, then hand them back, all within `seconds`."""
        self._draining = True
        if self._claimer is not None:
            self._claimer.cancel()
        if self._beat is not None:
            self._beat.draining = True
        for attempt in self._attempts.values():
            attempt.draining = True
        runs = list(self._runs.values())
        if runs:
            await asyncio.wait(runs, timeout=max(0.0, seconds - 3))
        for task_id, run in list(self._runs.items()):
            left = self._attempts.get(task_id)
            if left is not None:
                left.ended_by = left.ended_by or "drain"
            run.cancel()
        if self._runs:
            await asyncio.wait(list(self._runs.values()), timeout=3)
        await self._retire()

    async def _enlist(self) -> None:
        self.worker_id = uuid7()
        await asyncio.to_thread(self._enlist_row, self.worker_id)
        beat = Heartbeat(
            self._store,
            self.worker_id,
            self._lease,
            lambda: len(self._runs),
            lambda owned: self._from_thread(self._reconcile, owned),
            lambda: self._from_thread(self._lease_lost),
        )
        self._beat = beat
        beat.start()
        self.on_enlisted(self.worker_id)

    def _enlist_row(self, worker_id: str) -> None:
        with self._store.begin() as tx:
            workers.enlist(tx, worker_id, socket.gethostname(), os.getpid(), self._capacity, self._lease)

    def _from_thread(self, call: Callable[..., None], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)

    async def _retire(self) -> None:
        if self._beat is not None:
            await asyncio.to_thread(self._beat.stop)
        if self._runs:
            return  # the lease will run out, and a rescue takes them
        with self._suppress("retire"):
            await asyncio.to_thread(self._retire_row)

    def _retire_row(self) -> None:
        with self._store.begin() as tx:
            workers.retire(tx, self.worker_id)

    def _suppress(self, action: str) -> Any:
        return _Logged(action)

    def _reconcile(self, owned: dict[str, int]) -> None:
        """Bring what runs here and what the database says this worker owns into step.

        A run it owns no more (stopped, or taken while it was away) is ended. A task it owns and does not run
        (the answer to its claim, or the record of its end, got lost) is handed back.
        """
        orphans = {task_id: n for task_id, n in owned.items() if task_id not in self._runs}
        for task_id, attempt in orphans.items():
            if self._orphans.get(task_id) == attempt:  # seen at the last beat too: no claim is under way
                logger.warning("A task without a run is handed back", action="release", task=task_id)
                self._writer.submit(attempts.release, attempts.Release(task_id, attempt, "orphaned"))
        self._orphans = orphans
        # A run claimed after the question was asked is not in the answer: give it one beat.
        young = time.monotonic() - self._lease / 4
        for task_id, running in list(self._attempts.items()):
            if task_id not in owned and running.started < young:
                self.stop_run(task_id)

    def _lease_lost(self) -> None:
        """Another process declared this worker lost: nothing it does counts any more. Begin a new life."""
        logger.warning(
            "The lease was lost; its runs belong to others now", action="lease_lost", worker=self.worker_id
        )
        for task_id in list(self._runs):
            self.stop_run(task_id, "lost")
        if not self._draining:
            self._loop.create_task(self._enlist_again())

    async def _enlist_again(self) -> None:
        if self._beat is not None:
            await asyncio.to_thread(self._beat.stop)
        enlisted = False
        while not enlisted and not self._draining:
            with self._suppress("enlist"):
                await self._enlist()
                enlisted = True
            if not enlisted:
                await asyncio.sleep(1)
        self.wake()

    async def _claim_forever(self) -> None:
        while not self._draining:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                while await self._claim_once():
                    pass
            except Exception as error:  # noqa: BLE001 - the database is away, or another claim won
                logger.warning("A claim failed; trying again", action="claim", error=str(error)[:300])
                self._loop.call_later(1.0, self._wanted.set)

    async def _claim_once(self) -> bool:
        """Claim for the free slots; whether to claim again at once."""
        taken = self._slots.take(min(self._slots.free, CLAIM_AT_MOST))
        if not taken:
            self._hungry = True
            return False
        claimed: list[Claimed] = []
        try:
            claimed = await self._writer.call(claim, Claim(self.worker_id, taken))
        except LeaseLost:
            self._lease_lost()
        finally:
            if len(claimed) < taken:
                self._slots.release(taken - len(claimed))
        for one in claimed:
            run = self._loop.create_task(self._run(one), name=f"run-{one.task.id}")
            self._runs[one.task.id] = run
        self._hungry = len(claimed) == taken
        return self._hungry

    async def _run(self, claimed: Claimed) -> None:
        task_id = claimed.task.id
        try:
            attempt, runner = await self._attempt_of(claimed)
            attempt.draining = self._draining
            self._attempts[task_id] = attempt
            await execute(attempt, runner)
        except asyncio.CancelledError:
            pass
        except (DBAPIError, PoolTimeout) as error:
            # Nothing is wrong with the run: it is handed back at a later heartbeat, its budget unspent.
            logger.warning(
                "A run could not be prepared", action="prepare", task=task_id, error=str(error)[:200]
            )
        except Exception as error:
            logger.exception("A run could not be prepared", action="prepare", task=task_id)
            self._writer.submit(
                attempts.fail, attempts.Fail(task_id, claimed.task.attempt, classify(error), ())
            )
        finally:
            self._attempts.pop(task_id, None)
            if self._runs.get(task_id) is asyncio.current_task():
                self._runs.pop(task_id)
            self._slots.release()
            if self._hungry:
                self._wanted.set()


class _Logged:
    """Swallows and logs what a best-effort action raises: the lease covers for it."""

    def __init__(self, action: str) -> None:
        self._action = action

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, Exception):
            logger.warning("A worker could not %s", self._action, action=self._action, error=str(error)[:200])
            return True
        return False
