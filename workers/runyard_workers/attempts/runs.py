"""The runs under way in this process: each is prepared, executed as a coroutine, and ended in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from runyard.errors import Cancelled
from runyard_common.database.group_commit import GroupCommit
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.rules.suspicion import Suspicion
from runyard_common.runs.rules.tasks import Failure, Fence
from runyard_common.runs.service import attempts
from runyard_common.runs.service.claims import Claimed
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.executor import Runner, execute, out_of_time
from runyard_workers.attempts.failures import classify
from runyard_workers.attempts.patience import patiently
from runyard_workers.isolation.lease import Lease
from runyard_workers.isolation.loop_guard import LoopGuard
from runyard_workers.isolation.run_threads import RunThreads

logger = structlog.get_logger("runyard.runs")

#: What runs that were cancelled have for their way out, in seconds.
LAST_SECONDS = 3.0
#: How often to look for runs that have to end and do not, in seconds.
_LOOK_EVERY = 1.0


class Prepare(Protocol):
    """Makes an attempt of a claim (`runyard_workers.attempts.preparation.Preparation`)."""

    def __call__(self, claimed: Claimed, lease: Lease | None = None) -> Awaitable[tuple[Attempt, Runner]]:
        """The attempt, and what runs it."""

    def isolates(self, claimed: Claimed) -> bool:
        """Whether the run's code has a process of its own, which may end without harm to others."""


@dataclass(slots=True, eq=False)
class Life:
    """One claim of a task, as this process carries it out."""

    claimed: Claimed
    began: float = field(default_factory=time.monotonic)
    attempt: Attempt | None = None
    left: str | None = None  # why it must leave, while there is no attempt yet
    running: asyncio.Task[None] | None = None
    begun: bool = False  # its task has taken its first step; one cancelled before would not clean up
    leaves_since: float | None = None  # when it was first seen to have to end
    failing: asyncio.Task[None] | None = None  # stores the failure of a run that does not end
    outcome: str = "lost"  # how it ended: an `Outcome`, or `quarantined` where another process knows

    @property
    def fence(self) -> Fence:
        """The claim."""
        return self.claimed.task.fence

    @property
    def ended_by(self) -> str | None:
        """Why it must leave, if it must."""
        return self.attempt.ended_by if self.attempt is not None else self.left

    def leave(self, why: str) -> None:
        """Make it end at its next await."""
        if self.ended_by is not None:
            if why == "lost" and self.running is not None and self.begun:
                self.running.cancel()  # another may run it: no shield puts that off
            return
        self.left = why
        if self.attempt is not None:
            self.attempt.leave(why)
        if self.running is None or not self.begun:
            return
        attempt = self.attempt if why != "lost" else None
        if attempt is None or not attempt.interruptions.defer(self.running.cancel):
            self.running.cancel()


class Runs:
    """Create it on the loop. Every method belongs to the loop's thread."""

    def __init__(
        self,
        prepare: Prepare,
        writer: GroupCommit,
        guard: LoopGuard,
        threads: RunThreads,
        on_end: Callable[[Life, list[Future[Any]]], None],
        quarantined: Callable[[Life], Awaitable[None]] | None = None,
        ending: Callable[[str], None] = lambda task_id: None,
    ) -> None:
        """`threads` are where agents' blocking code runs. `on_end` gets each life that is over, with its calls that
        still hold one of them. `quarantined` executes suspects in other processes; without it they run here.
        `ending` gets the task of an attempt whose end is about to be written."""
        self._prepare = prepare
        self._writer = writer
        self._guard = guard
        self._threads = threads
        self._on_end = on_end
        self._quarantined = quarantined
        self._ending = ending
        self._loop = asyncio.get_running_loop()
        self._lives: dict[str, Life] = {}
        self._draining = False
        self._look_timer: asyncio.TimerHandle | None = None
        self.lease: Lease | None = None

    def __len__(self) -> int:
        return len(self._lives)

    def get(self, task_id: str) -> Life | None:
        """The life of this task here."""
        return self._lives.get(task_id)

    def lives(self) -> list[Life]:
        """Every life under way."""
        return list(self._lives.values())

    def begin(self, claimed: Claimed) -> Life:
        """Carry out a claim. A former life of the same task is ended first: it can own the task no more."""
        task_id = claimed.task.id
        life, former = Life(claimed), self._lives.get(task_id)
        self._lives[task_id] = life
        with self._guard.on_behalf_of(task_id):
            life.running = self._loop.create_task(self._run(life, former), name=f"run-{task_id}")
        return life

    def cancel(self, task_id: str, why: str = "cancel") -> None:
        """End one run here; its task belongs to another, or is over."""
        life = self._lives.get(task_id)
        if life is not None:
            life.leave(why)

    async def drain(self, seconds: float) -> list[Life]:
        """Let runs reach their next step within `seconds`, then hand them back; those that do not even end then."""
        self._draining = True
        for life in self.lives():
            if life.attempt is not None:
                life.attempt.draining = True
        await self._wait(seconds)
        for life in self.lives():
            life.leave("drain")
        await self._wait(LAST_SECONDS)
        return self.lives()

    async def ended(self) -> None:
        """Return once no run is under way."""
        while self._lives:
            await self._wait(_LOOK_EVERY)

    async def _wait(self, seconds: float) -> None:
        running = [life.running for life in self.lives() if life.running is not None]
        if running:
            await asyncio.wait(running, timeout=max(0.0, seconds))

    async def _run(self, life: Life, former: Life | None) -> None:
        life.begun = True
        # On every line that is logged from here on, by the agent's code too.
        structlog.contextvars.bind_contextvars(task_id=life.claimed.task.id, attempt=life.fence.attempt)
        try:
            if former is not None and not await self._ended(former):
                await self._hand_back(life, "an earlier attempt of it is still running here")
            elif life.left is not None:
                raise Cancelled(life.left)
            elif self._quarantined is not None and self._is_suspect(life.claimed):
                life.outcome = "quarantined"
                await self._quarantined(life)
            else:
                await self._execute(life)
        except (asyncio.CancelledError, Cancelled):
            pass
        except Exception as error:
            logger.exception("A run could not be prepared", action="prepare", task=life.claimed.task.id)
            await self._fail(life, error)
        finally:
            if self._lives.get(life.claimed.task.id) is life:
                del self._lives[life.claimed.task.id]
            if life.attempt is not None:
                life.attempt.leave("over")  # what its code has left behind can do nothing more for it
            # A former attempt's calls are counted already: the task is over here only with its last life.
            calls = self._threads.of(life.claimed.task.id) if life.attempt is not None else []
            self._on_end(life, calls)

    def _is_suspect(self, claimed: Claimed) -> bool:
        return claimed.task.suspicion >= Suspicion.SUSPECT and not self._prepare.isolates(claimed)

    async def _execute(self, life: Life) -> None:
        attempt, runner = await patiently(
            lambda: self._prepare(life.claimed, self.lease), lambda: life.left, life.claimed.task.id
        )
        attempt.draining = self._draining
        attempt.on_end = self._ending
        attempt.ended_by = life.left
        life.attempt = attempt
        attempt.check()
        self._look_later()
        life.outcome = await execute(attempt, runner)

    @property
    def _grace(self) -> float:
        """What a run that has to end is given for it, in seconds."""
        return self.lease.seconds if self.lease is not None else 10.0

    def _look_later(self) -> None:
        """One timer looks after all runs: a task for each would cost as much as a run."""
        if self._look_timer is None:
            every = min(_LOOK_EVERY, self._grace / 8)
            # In an empty context: it does not belong to the run that comes first.
            self._look_timer = self._loop.call_later(every, self._look, context=Context())

    def _look(self) -> None:
        """See to it that runs which have to end do: an agent may swallow its cancellation."""
        self._look_timer = None
        if self._lives:
            self._look_later()
        now = time.monotonic()
        for life in self.lives():
            attempt = life.attempt
            if attempt is None or life.failing is not None:
                continue
            left = attempt.seconds_left()
            if attempt.ended_by is None and left is not None and left < 0:
                attempt.leave("timeout")
            if attempt.ended_by is None:
                continue
            if life.leaves_since is None:
                life.leaves_since = now
            elif now - life.leaves_since >= self._grace:
                life.failing = self._loop.create_task(self._overdue(life, attempt), name="overdue")

    async def _overdue(self, life: Life, attempt: Attempt) -> None:
        """A run that is past its deadline and does not end is failed from here; its code goes on, keeping its slot,
        but every call of its context is refused."""
        logger.warning(
            "A run does not end: its code swallows the cancellation and keeps its slot",
            action="overdue", task=attempt.task.id, agent=attempt.task.agent_name, why=attempt.ended_by,
        )  # fmt: skip
        if attempt.ended_by == "timeout":
            await self._store_failure(life, out_of_time(attempt))

    async def _ended(self, former: Life) -> bool:
        """End a former life of a task that was claimed here again; whether it could be."""
        task_id, seconds = former.claimed.task.id, self._grace
        logger.warning("A claim was lost; its run is ended before the next", action="supersede", task=task_id)
        former.leave("lost")
        if former.running is not None:
            await asyncio.wait([former.running], timeout=seconds)
        calls = self._threads.of(task_id)
        if calls:
            await asyncio.wait([asyncio.wrap_future(call) for call in calls], timeout=seconds)
        return (former.running is None or former.running.done()) and not self._threads.of(task_id)

    async def _hand_back(self, life: Life, reason: str) -> None:
        task_id = life.claimed.task.id
        command = attempts.Release(task_id, life.fence, reason)
        await patiently(lambda: self._writer.call(attempts.release, command), lambda: life.ended_by, task_id)

    async def _fail(self, life: Life, error: Exception) -> None:
        await self._store_failure(life, classify(error))

    async def _store_failure(self, life: Life, failure: Failure) -> None:
        life.outcome = Outcome.FAILED
        task_id = life.claimed.task.id
        undone = None if life.attempt is None else life.attempt.compensations
        compensation = None
        if life.attempt is not None and undone is not None and undone.left:
            compensation = life.attempt.placed(undone.failed)
        command = attempts.Fail(task_id, life.fence, failure, compensation=compensation)
        try:
            await patiently(lambda: self._writer.call(attempts.fail, command), lambda: life.left, task_id)
        except (asyncio.CancelledError, Cancelled):
            pass
        except Exception as refused:  # noqa: BLE001 - the task is another's by now, or a heartbeat hands it back
            logger.warning(
                "A failure could not be stored", action="record", task=task_id, error=str(refused)[:200]
            )
