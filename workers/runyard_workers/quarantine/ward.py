"""The quarantine: suspects run in child processes of the worker, so that the one that ends its process ends no other.

Suspects share a child, which notes whose code it is in: when it dies, that is usually known, and that run pays. A
run that may have been the cause gets a child of its own, and pays if that dies too. The others go on elsewhere, at
no cost. The children write to the database themselves, under the worker's lease.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from runyard.errors import Cancelled
from runyard_common.database.transaction import Store
from runyard_common.metrics.points import POINTS
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.suspicion import Loss, Suspicion
from runyard_common.runs.rules.tasks import Failure, Fence
from runyard_common.runs.service import attempts, rescues
from runyard_workers.attempts.patience import patiently
from runyard_workers.attempts.runs import Life
from runyard_workers.isolation import deaths
from runyard_workers.isolation.lease import Lease
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.isolation.watchdog import BLOCKED
from runyard_workers.quarantine.process import QuarantineProcess

logger = structlog.get_logger("runyard.quarantine")

#: Most runs that have a process of their own at once.
MOST_EXCLUSIVE = 4
#: How long the shared process is kept without a run, in seconds.
IDLE_SECONDS = 30.0


@dataclass(eq=False)
class _Ward:
    """One child process and the runs in it."""

    process: QuarantineProcess
    exclusive: bool  # for one run only
    lives: dict[str, Life] = field(default_factory=dict)
    over: dict[str, asyncio.Event] = field(default_factory=dict)
    ready: bool = False  # it executes what it is sent
    ordered: bool = False  # we ended it, or it announced its end: that is no sign against its runs
    judged: asyncio.Task[None] | None = None


class Quarantine:
    """Create it on the loop. `lease` is set by the engine."""

    def __init__(self, store: Store, start: Callable[..., QuarantineProcess] = QuarantineProcess) -> None:
        self._store = store
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._shared: _Ward | None = None
        self._wards: set[_Ward] = set()
        self._exclusive = asyncio.Semaphore(MOST_EXCLUSIVE)
        self._closed = False
        self.lease: Lease | None = None

    async def execute(self, life: Life) -> None:
        """Execute a suspect in a child process until it is over there, or its process is."""
        if life.claimed.task.suspicion >= Suspicion.ISOLATED:
            async with self._exclusive:
                ward = self._ward(exclusive=True)
                try:
                    await self._in(ward, life)
                finally:
                    ward.process.finish()
            return
        if self._shared is None or not self._shared.process.alive or self._shared.ordered:
            self._shared = self._ward(exclusive=False)
        await self._in(self._shared, life)

    def renew(self) -> None:
        """The lease was renewed: let the children know."""
        if self.lease is not None:
            for ward in self._wards:
                ward.process.send({"beat": self.lease.asked_at})

    def drain(self, seconds: float) -> None:
        """Let the children hand their runs back at their next step, within `seconds`."""
        self._closed = True
        for ward in self._wards:
            ward.process.send({"drain": seconds})

    def close(self) -> None:
        """End the children now. Safe to call from any thread."""
        self._closed = True
        for ward in list(self._wards):
            ward.ordered = True
            ward.process.kill()

    def _ward(self, exclusive: bool) -> _Ward:
        if self._closed:
            raise Cancelled("the worker is leaving")
        assert self.lease is not None
        ward: _Ward

        def on_message(message: dict[str, object]) -> None:
            ward.ready = ward.ready or "ready" in message
            ward.ordered = ward.ordered or "leaving" in message
            if (note := POINTS.passed_on) is not None and "events" in message:
                note(message["events"])
            over = ward.over.get(str(message.get("ended")))
            if over is not None:
                over.set()

        def on_death() -> None:
            ward.judged = self._loop.create_task(self._judge(ward), name="quarantine-death")

        process = self._start(self._loop, self.lease.seconds, on_message, on_death)
        ward = _Ward(process, exclusive)
        self._wards.add(ward)
        ward.process.send({"beat": self.lease.asked_at})
        return ward

    async def _in(self, ward: _Ward, life: Life) -> None:
        task, over = life.claimed.task, asyncio.Event()
        ward.lives[task.id], ward.over[task.id] = life, over
        ward.process.send({"run": task.id, "attempt": task.attempt, "token": task.claim_token})
        try:
            await over.wait()
        except asyncio.CancelledError:
            await self._cancel(ward, life, over)
            raise
        finally:
            if ward.over.get(task.id) is over:
                del ward.lives[task.id], ward.over[task.id]
            if not ward.lives and not ward.exclusive:
                self._loop.call_later(IDLE_SECONDS, self._finish_idle, ward)

    def _finish_idle(self, ward: _Ward) -> None:
        """Suspects are rare: a process without any is not kept."""
        if not ward.lives:
            if self._shared is ward:
                self._shared = None
            ward.process.finish()

    async def _cancel(self, ward: _Ward, life: Life, over: asyncio.Event) -> None:
        """End one run in its child; with the child, if it does not listen."""
        assert self.lease is not None
        task_id = life.claimed.task.id
        ward.process.send({"cancel": task_id, "why": life.ended_by or "cancel"})
        try:
            async with asyncio.timeout(self.lease.seconds):
                await over.wait()
        except TimeoutError:
            logger.warning("A suspect does not end; its process is ended", action="quarantine", task=task_id)
            ward.ordered = True
            ward.process.kill()
            await over.wait()

    # -- a death -------------------------------------------------------------------------------------------

    async def _judge(self, ward: _Ward) -> None:
        """A child has died: find out for whose sake, let that run pay, and hand on the others."""
        self._wards.discard(ward)
        if self._shared is ward:
            self._shared = None
        left = {
            id_: life.fence
            for id_, life in ward.lives.items()
            if not ward.over[id_].is_set() and life.ended_by is None
        }
        try:
            if left:
                await patiently(
                    lambda: in_engine_thread(self._settle, ward, left), lambda: None, ", ".join(left)
                )
        except Exception:
            # A heartbeat finds tasks without a run and hands them back.
            logger.exception("The death of a quarantine process could not be settled", action="quarantine")
        finally:
            ward.process.close()
            for over in ward.over.values():
                over.set()

    def _settle(self, ward: _Ward, left: dict[str, Fence]) -> None:
        status = ward.process.status
        executing = ward.process.executing() & left.keys()
        guilty = None if ward.ordered or not ward.ready else _guilty(ward, set(left), executing)
        logger.error(
            "A quarantine process ended", action="quarantine", how=_how(status, ward.process.out_of_memory),
            runs=len(left), executing=sorted(executing), guilty=guilty or "not known",
        )  # fmt: skip
        with self._store.begin() as tx:
            if not ward.ready and not ward.ordered:  # it has executed nothing: no run is to blame
                reason = "its quarantine process did not start"
                attempts.release(tx, [attempts.Release(id_, fence, reason) for id_, fence in left.items()])
                return
            others = dict(left)
            if guilty is not None:
                rescues.blame(tx, guilty, others.pop(guilty), self._failure(ward))
                rescues.hand_on(tx, others, Loss.MOVED if ward.ordered else Loss.CROWDED)
                return
            suspects = {id_: others.pop(id_) for id_ in executing or set(left)} if not ward.ordered else {}
            rescues.hand_on(tx, suspects, Loss.SUSPECTED)
            rescues.hand_on(tx, others, Loss.MOVED if ward.ordered else Loss.CROWDED)

    def _failure(self, ward: _Ward) -> Failure:
        status, oom = ward.process.status, ward.process.out_of_memory
        if status == BLOCKED:
            assert self.lease is not None
            return rescues.blocked_loop(self.lease.seconds)
        company = "alone" if ward.exclusive else "separately from other runs"
        return Failure(
            "process_died",
            f"This run ended its process: {_how(status, oom)}. It ran {company} then, as its worker's process had "
            "died before while it ran. Look for os._exit, native code that crashes or keeps the interpreter's lock, or "
            "memory without a bound.",
            Cause.AGENT,
            True,
            details=deaths.details(status, oom),
        )


def _guilty(ward: _Ward, runs: set[str], executing: set[str]) -> str | None:
    """The run that ended the process, if that is certain enough to let it pay.

    A process killed from outside (an operator, another program) dies at any moment: only a run that was alone in it
    for that reason is blamed then.
    """
    candidates = executing or runs
    if len(candidates) != 1:
        return None
    certain = ward.exclusive or ward.process.out_of_memory or ward.process.status != -signal.SIGKILL
    return next(iter(candidates)) if certain else None


def _how(status: int, out_of_memory: bool) -> str:
    return "its event loop was blocked" if status == BLOCKED else deaths.described(status, out_of_memory)
