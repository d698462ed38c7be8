"""The engine of a worker process: claims tasks for its free slots, runs each as a coroutine, drains.

A wake-up message, a freed slot after a full claim, or a look at the database every few seconds makes it claim; one
claim brings as many tasks as there are free slots. It lives on the worker's event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from runyard_common.database.group_commit import Asked, GroupCommit
from runyard_common.database.start_waits import once_there
from runyard_common.database.transaction import Store
from runyard_common.metrics.points import POINTS
from runyard_common.runs.queries import workers
from runyard_common.runs.queries.workers import Health
from runyard_common.runs.rules.tasks import Fence
from runyard_common.runs.service import attempts
from runyard_common.runs.service.claims import Batch, Claim, Claimed, LeaseLost, claim
from runyard_common.values.ids import uuid7
from runyard_workers.attempts import ownership
from runyard_workers.attempts.runs import LAST_SECONDS, Life, Prepare, Runs
from runyard_workers.heartbeat import Heartbeat
from runyard_workers.isolation import descriptors
from runyard_workers.isolation.lease import Lease
from runyard_workers.isolation.loop_guard import LoopGuard
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.isolation.service import Service
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.isolation.watchdog import BLOCKED, Blocked, Watchdog, leave
from runyard_workers.membership import Membership
from runyard_workers.quarantine.ward import Quarantine
from runyard_workers.runnable import Runnable
from runyard_workers.slots import Slots

logger = structlog.get_logger("runyard.engine")

#: How often an idle worker looks for work without a wake-up, in seconds; and while another lacks agents that it has.
LOOK_EVERY, LOOK_OFTEN = 3.0, 0.5
#: When to look again for tasks that another transaction had locked, in seconds.
LOOK_AGAIN = 0.05
#: What handing on the runs of a blocked process may take before it ends all the same, in seconds.
_LAST_WRITE = 5.0
_NO_DESCRIPTORS: Final = "The process has hardly a file descriptor left"


class Engine:
    """Create it on the loop, `start()` it, `drain()` it."""

    def __init__(
        self,
        store: Store,
        writer: GroupCommit,
        slots: Slots,
        capacity: int,
        lease_seconds: float,
        prepare: Prepare,
        threads: RunThreads,
        guard: LoopGuard | None = None,
        quarantine: Quarantine | None = None,
        block_seconds: float | None = None,
        agents: Sequence[str] | None = None,
        brings: Sequence[str] | None = None,
        resumes: Sequence[str] = (),
        dedicated: bool = False,
        release: str | None = None,
    ) -> None:
        """`threads` are where agents' blocking code runs, `guard` is the loop's. Without `quarantine` suspects run
        among the others. A loop that is blocked for `block_seconds` ends the process; None watches over nothing.
        `agents` are the Python agents (name@version) whose runs it claims; None: those of all. `brings`, `resumes`
        and `release`: see `workers.enlist`. `dedicated`: it claims runs of these alone, and no wake-up reaches it."""
        self._store = store
        self._writer = writer
        self._slots = slots
        self._capacity = capacity
        self._lease_seconds = lease_seconds
        self._guard = guard or LoopGuard()
        self._quarantine = quarantine
        self._block_seconds = block_seconds
        self._runnable = Runnable(agents, resumes, dedicated)
        self._membership = Membership(store, capacity, lease_seconds, agents, brings, resumes, release)
        self._look_every = LOOK_OFTEN if dedicated else LOOK_EVERY
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._hungry = False  # the last claim came back full: there may be more
        self._asked: tuple[Asked, Heartbeat] | None = None  # the claim under way, and the life that asks
        self._vacating: set[str] = set()  # runs whose ends are being written, and free their slots
        self._threads = threads
        run_suspect = quarantine.execute if quarantine is not None else None
        self._runs = Runs(prepare, writer, self._guard, threads, self._ended, run_suspect, self._ending)
        self._busy_threads, self._draining, self._worn_out = 0, False, False
        self._reserve = descriptors.Reserve()
        self._orphans: dict[str, Fence] = {}
        self._claimer = Service("claimer", self._claim_forever, lambda: not self._draining)
        self._beat: Heartbeat | None = None
        self._watchdog: Watchdog | None = None
        self.worker_id = ""
        self.on_enlisted: Callable[[str], None] = lambda worker_id: None
        self.on_begin: Callable[[Claimed], None] = lambda claimed: None
        #: Called on the loop when this process has used up its threads or its file descriptors.
        self.on_worn_out: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Enlist this process, once the database is there, and begin to claim."""
        if (seconds := self._block_seconds) is not None:
            self._watchdog = Watchdog(self._loop, self._guard, seconds, self._leave_blocked, hard=True)
            self._watchdog.start()
        await once_there(self._enlist)
        self._claimer.start()
        self.wake()

    def wake(self) -> None:
        """Work waits. Call it on the loop."""
        self._wanted.set()

    def wake_threadsafe(self) -> None:
        """Work waits. Call it from any thread."""
        self._from_thread(self._wanted.set)

    @property
    def running(self) -> int:
        """Runs under way."""
        return len(self._runs)

    def cancel_run(self, task_id: str, why: str = "cancel") -> None:
        """End one run here; its task is this worker's no more. Call it on the loop."""
        self._runs.cancel(task_id, why)

    # -- the end -------------------------------------------------------------------------------------------

    async def leave(self, on_left: Callable[[], None]) -> None:
        """Claim no more, then call `on_left`; return once the runs under way have ended."""
        self._draining = True
        self.wake()
        await asyncio.gather(in_engine_thread(self._begin_to_leave), self._claimer.wait(_LAST_WRITE))
        on_left()
        await self._runs.ended()

    async def drain(self, seconds: float) -> None:
        """Claim no more; let runs reach their next step, then hand them back, all within `seconds`."""
        end = time.monotonic() + seconds
        self._draining = True
        self.wake()
        leaving = asyncio.ensure_future(in_engine_thread(self._begin_to_leave))
        # A claim under way commits even if its caller ends: what it claims must be handed back.
        await self._claimer.wait(max(0.0, seconds - LAST_SECONDS))
        if self._quarantine is not None:
            self._quarantine.drain(max(0.0, end - time.monotonic() - LAST_SECONDS))
        left = await self._runs.drain(end - time.monotonic() - LAST_SECONDS)
        if left:
            logger.warning("Runs do not end; they are handed on meanwhile", action="drain", runs=len(left))
        await asyncio.wait({leaving}, timeout=1.0)  # the database may be away; to retire does the same
        await self._retire()

    def _begin_to_leave(self) -> None:
        try:
            self._membership.drain(self.worker_id)
        except Exception as error:  # noqa: BLE001 - the next beat records that it drains, and its end does the rest
            logger.warning("A worker could not record that it drains", action="drain", error=str(error)[:200])

    async def _retire(self) -> None:
        if self._beat is not None:
            await in_engine_thread(self._beat.stop)
        try:
            await in_engine_thread(self._membership.retire, self.worker_id)
        except Exception as error:  # noqa: BLE001 - the lease will run out, and a scheduler finds the row
            logger.warning("A worker could not retire", action="retire", error=str(error)[:200])
        if self._quarantine is not None:
            self._quarantine.close()
        if self._watchdog is not None:
            await in_engine_thread(self._watchdog.stop)
        self._reserve.release()

    def _leave_blocked(self, found: Blocked) -> None:
        """The loop is blocked: fail the run that blocks it, hand on the others, end the process."""
        logger.critical(
            "A run blocks the event loop; this worker hands on its other runs and ends",
            action="blocked", worker=self.worker_id, task=found.run, seconds=round(found.seconds, 1),
            stack=found.stack,
        )  # fmt: skip
        # On a thread of its own: a database that is away, too, must not keep this process.
        hand_on = self._membership.hand_on_blocked
        last = threading.Thread(target=hand_on, args=(self.worker_id, found), daemon=True)
        last.start()
        last.join(_LAST_WRITE)
        if self._quarantine is not None:
            self._quarantine.close()
        leave(BLOCKED)

    # -- the lease -----------------------------------------------------------------------------------------

    async def _enlist(self) -> None:
        self.worker_id = uuid7()  # another at each attempt: the last one's row may be there
        lease = Lease(self._lease_seconds)
        await in_engine_thread(self._enlist_row, self.worker_id)
        beat = Heartbeat(
            self._store, self.worker_id, lease, self._health,
            lambda owned: self._from_thread(self._reconcile, owned),
            lambda: self._from_thread(self._lease_lost, beat), self._look_around,
        )  # fmt: skip
        self._runs.lease, self._beat = lease, beat
        if self._quarantine is not None:
            self._quarantine.lease = lease
        beat.start()
        self.on_enlisted(self.worker_id)

    def _enlist_row(self, worker_id: str) -> None:
        self._membership.enlist(worker_id, self._slots.paused)
        with self._store.read() as conn:
            self._look_around(conn)

    def _look_around(self, conn: Connection) -> None:
        """A wake-up for a run that another worker cannot carry out may reach that worker alone."""
        if (paused := workers.is_draining(conn, self.worker_id)) != self._slots.paused:
            self._from_thread(self._pause, paused)
        if self._runnable.look(conn, self._store.db.now(conn)):
            self.wake_threadsafe()
        often = self._runnable.dedicated or self._runnable.is_lacked
        self._look_every = LOOK_OFTEN if often else LOOK_EVERY

    def _pause(self, paused: bool) -> None:
        self._slots.pause(paused)
        logger.info("Drained: no run is claimed" if paused else "Runs are claimed again", action="drain")
        self.wake()

    def _health(self) -> Health:
        lag = self._watchdog.lag_s if self._watchdog is not None else 0.0
        # A loop that has been silent for long starts nothing, so it reports no capacity.
        silent = self._block_seconds is not None and lag >= self._block_seconds / 2
        capacity = 0 if silent else max(0, self._capacity - self._busy_threads)
        return Health(len(self._runs), capacity, self._draining, round(lag, 3), self._busy_threads)

    def _from_thread(self, call: Callable[..., None], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)

    def _reconcile(self, owned: dict[str, Fence]) -> None:
        """Bring what runs here into step with what this worker owns in the database.

        A run it owns no more (stopped, or claimed by another while it was away) is ended. A task it owns and does
        not run (the answer to its claim, or the record of its end, got lost) is handed back.
        """
        if descriptors.nearly_exhausted():
            self._give_way(_NO_DESCRIPTORS)
        if self._quarantine is not None:
            self._quarantine.renew()
        lives = {life.claimed.task.id: life for life in self._runs.lives()}
        orphans = {id_: f for id_, f in owned.items() if id_ not in lives or lives[id_].fence != f}
        for task_id, fence in orphans.items():
            if self._orphans.get(task_id) == fence:  # seen at the last beat too: no claim is under way
                logger.warning("A task without a run is handed back", action="release", task=task_id)
                self._writer.submit(attempts.release, attempts.Release(task_id, fence, "orphaned"))
        self._orphans = orphans
        # A run claimed after the question was asked is not in the answer: give it one beat.
        young = time.monotonic() - self._lease_seconds / 4
        gone = [life for id_, life in lives.items() if owned.get(id_) != life.fence and life.began < young]
        if gone:
            self._leaving = self._loop.create_task(self._end(gone), name="end")

    async def _end(self, lives: list[Life]) -> None:
        why = await ownership.reasons(self._store, [life.claimed.task.id for life in lives])
        for life in lives:
            life.leave(why[life.claimed.task.id])

    def _lease_lost(self, beat: Heartbeat | None = None) -> None:
        """Another process declared this worker lost: nothing it does counts any more. Begin a new life."""
        if beat is not None and beat is not self._beat:
            return  # a claim has found out before
        logger.warning(
            "The lease was lost; its runs belong to others now", action="lease_lost", worker=self.worker_id
        )
        if (note := POINTS.lease_lost) is not None:
            note()
        lost, self._beat = self._beat, None
        for life in self._runs.lives():
            life.leave("lost")
        if not self._draining:
            self._enlisting = self._loop.create_task(self._enlist_again(lost), name="enlist")

    async def _enlist_again(self, lost: Heartbeat | None) -> None:
        if lost is not None:
            await in_engine_thread(lost.stop)
        while not self._draining:
            try:
                await self._enlist()
                break
            except Exception as error:  # noqa: BLE001 - the database is away
                logger.warning("A worker could not enlist", action="enlist", error=str(error)[:200])
                await asyncio.sleep(1)
        self.wake()

    # -- claims --------------------------------------------------------------------------------------------

    async def _claim_forever(self) -> None:
        while not self._draining:
            try:
                async with asyncio.timeout(self._look_every):
                    await self._wanted.wait()
            except TimeoutError:
                pass  # messages may get lost, or the broker be away: the database knows
            self._wanted.clear()
            try:
                while await self._claim_once():
                    pass
            except Exception as error:  # noqa: BLE001 - the database is away, or another claim won
                logger.warning("A claim failed; trying again", action="claim", error=str(error)[:300])
                self._loop.call_later(1.0, self._wanted.set)

    async def _claim_once(self) -> bool:
        """Claim for the free slots; whether to claim again at once."""
        if self._asked is None:
            if self._beat is None or self._draining:
                return False  # between two lives: the next one wakes the claimer
            if not self._slots.free:
                self._hungry = True
                return False
            self._asked = self._ask(self._beat, self._writer.ask)
        asked, beat = self._asked
        batch = Batch([])
        try:
            batch = await asked.future
        except LeaseLost:
            # Of the life that asked: a heartbeat may have found out first, and the next life have begun.
            self._lease_lost(beat)
        finally:
            self._asked = None
        # Those of its runs that ended in the same transaction give their slots back in this turn of the loop.
        self._slots.occupy(len(batch.claimed))
        for one in batch.claimed:
            self._begin(one)
        if (note := POINTS.claim) is not None and batch.slots:
            note(batch.slots, len(batch.claimed))
        self._hungry = len(batch.claimed) == batch.slots
        if batch.more and not self._hungry:
            self._loop.call_later(LOOK_AGAIN, self._wanted.set)
        return self._hungry

    def _ask(self, beat: Heartbeat, ask: Callable[..., Asked]) -> tuple[Asked, Heartbeat]:
        """Only one claim is under way at a time: what is free now is free when it has committed."""
        mine = self._runnable
        command = Claim(
            self.worker_id, self._slots.free, mine.own, self._vacating, mine.carried_on, mine.dedicated
        )
        return ask(claim, command), beat

    def _ending(self, task_id: str) -> None:
        """The end of a run is about to be written. Where there may be more work, a claim goes into its transaction,
        and gets the slots of those that end there."""
        if not self._hungry or self._threads.of(task_id):
            return
        self._vacating.add(task_id)
        if self._asked is None and self._beat is not None and not self._draining:
            self._asked = self._ask(self._beat, self._writer.ask_with_next)
            self._wanted.set()

    def _begin(self, claimed: Claimed) -> None:
        if self._draining:  # the drain began while the claim was under way
            self._slots.release()
            self._writer.submit(attempts.release, attempts.Release(claimed.task.id, claimed.task.fence))
        else:
            self.on_begin(claimed)
            if (note := POINTS.claimed) is not None:
                task = claimed.task
                note(task, claimed.at - task.updated_at, claimed.at - task.created_at)
            self._runs.begin(claimed)

    def _give_way(self, why: str, **figures: Any) -> None:
        """This process is no good any more: it hands its runs back and ends, and a new one takes its place."""
        if self._draining or self._worn_out:
            return
        self._worn_out = True
        self._reserve.release()
        logger.error(
            "This worker drains and ends", action="worn_out", worker=self.worker_id, reason=why, **figures
        )
        self.on_worn_out()

    def _ended(self, life: Life, busy: list[Future[Any]]) -> None:
        """Free the slot of a run that is over, or keep it for the threads that do not come back."""
        self._vacating.discard(life.claimed.task.id)
        if (note := POINTS.attempt) is not None:
            note(life.claimed.task, life.outcome, time.monotonic() - life.began)
        if life.attempt is not None and life.attempt.starved:
            self._give_way(_NO_DESCRIPTORS)
        if not busy:
            self._free_slot()
            return
        logger.warning(
            "A run has ended and its code runs on in a thread, which is counted against this worker's capacity",
            action="hold_thread", task=life.claimed.task.id, threads=len(busy),
        )  # fmt: skip
        self._busy_threads += len(busy)
        self._slots.occupy(len(busy) - 1)
        for call in busy:
            call.add_done_callback(lambda _: self._from_thread(self._thread_back))
        if self._busy_threads >= self._capacity:
            self._give_way("Every thread is busy with a run that has ended", threads=self._busy_threads)

    def _thread_back(self) -> None:
        self._busy_threads -= 1
        self._free_slot()

    def _free_slot(self) -> None:
        self._slots.release()
        if self._hungry:
            self._wanted.set()
