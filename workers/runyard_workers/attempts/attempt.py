"""One attempt of a task: the fenced writes and the journal that every kind of agent works through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import structlog

from runyard import json_form
from runyard.errors import AgentError, Cancelled, Suspension
from runyard_common.costly import CostlyWork
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.pages import MOST_BYTES
from runyard_common.database.transaction import Store
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.queries import journal
from runyard_common.runs.rules.journal import CONCURRENT, JournalEntry, Step, Unread
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.rules.tasks import Failure, Fence, Task
from runyard_common.runs.rules.waits import Group, together
from runyard_common.runs.service import steps
from runyard_common.runs.service.attempts import DRAIN, Asked
from runyard_common.runs.service.claims import Claimed
from runyard_common.runs.service.steps import Entry as Event
from runyard_common.sessions.rules import Line
from runyard_common.values.errors import StaleFence
from runyard_workers.agent_code import awaited, values
from runyard_workers.agent_code.exceptions import within
from runyard_workers.agent_code.raised import describe
from runyard_workers.agent_code.run_output import RunOutput
from runyard_workers.agent_code.values import Bounds
from runyard_workers.attempts import ownership, spans
from runyard_workers.attempts.answers import Answers
from runyard_workers.attempts.caught import CaughtFailures, handling
from runyard_workers.attempts.compensating import INSIDE, WITHOUT_ENTRY, Compensations
from runyard_workers.attempts.interruptions import Interruptions
from runyard_workers.attempts.patience import patiently
from runyard_workers.attempts.redaction import Redaction
from runyard_workers.attempts.replay import BRANCHED, GATHERED, Replay, clean, enclosed, inside, replayed
from runyard_workers.attempts.tokens import Tokens
from runyard_workers.isolation import descriptors
from runyard_workers.isolation.lease import Lease
from runyard_workers.isolation.loop_guard import RUN
from runyard_workers.isolation.siblings import Siblings
from runyard_workers.isolation.threads import in_engine_thread

P = ParamSpec("P")
T = TypeVar("T")

logger = structlog.get_logger("runyard.attempt")
#: Values of a journal that are read at once, and recalled in a row before other runs have their turn.
_MOST_READ, _MOST_RECALLED = 500, 200


@dataclass(frozen=True, slots=True)
class Ended:
    """How the attempt ended: the outcome and what goes with it."""

    outcome: Outcome
    output: Any = None
    failure: Failure | None = None
    asked: tuple[Asked, ...] = ()
    groups: tuple[Group, ...] = ()  # of children, events and times that it waits for
    lines: tuple[Line, ...] = ()
    reason: str = DRAIN  # why it is handed over
    compensation: Step | None = None  # that failed
    step: str | None = None  # the key of that whose failure it is


class Suspended(Suspension):
    """Carries why a run leaves its worker to the executor."""

    def __init__(self, ended: Ended) -> None:
        self.ended = ended
        super().__init__(ended.outcome.value)

    @classmethod
    def until(cls, *asked: Asked, lines: tuple[Line, ...] = ()) -> Suspended:
        """Until people have answered. Reviews come first: the status of a task allows answers to one kind only, and
        the others are asked when it goes on."""
        reviews = tuple(one for one in asked if one.kind == "review")
        if reviews:
            return cls(Ended(Outcome.NEEDS_REVIEW, asked=reviews))
        return cls(Ended(Outcome.ASKED, asked=asked, lines=lines))

    @classmethod
    def merged(cls, suspended: Sequence[Suspended]) -> Suspended:
        """Several of one run as one: what was asked first, each once, then other waits, then a hand-over."""
        asked = {one.key: one for each in suspended for one in each.ended.asked}
        if asked:
            lines = tuple(chain.from_iterable(each.ended.lines for each in suspended))
            return cls.until(*asked.values(), lines=lines)
        groups = together(group for each in suspended for group in each.ended.groups)
        return cls.waiting(*groups) if groups else cls(suspended[0].ended)

    @classmethod
    def waiting(cls, *groups: Group) -> Suspended:
        """Until one of these groups has what it waits for."""
        return cls(Ended(Outcome.WAITING, groups=groups))


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt in progress. Its writes raise `Cancelled` once it no longer owns the task."""

    claimed: Claimed
    manifest: dict[str, Any]
    store: Store
    writer: GroupCommit
    tokens: Tokens
    secrets: dict[str, Any]
    executor: Executor  # where blocking code of this attempt runs
    lease: Lease | None = None  # None: no other process can claim the run
    deadline: float | None = None  # epoch seconds, on the database's clock
    bounds: Bounds = field(default_factory=Bounds)
    sealer: Sealer | None = None  # opens the credentials in other agents' manifests
    by_operator: bool = False  # the operator published the manifest: it may use the tools it lists
    own_agent: bool = True  # its organisation is the run's; another's servers are not for the run's log
    output: RunOutput | None = None  # what its code prints; None: that is not for the run
    costly: CostlyWork | None = None  # where large values are looked through; None: here
    ends_at: float | None = None  # the same on this process's monotonic clock
    ended_by: str | None = None  # cancel, lost, drain, timeout: why the attempt must leave
    draining: bool = False
    starved: bool = False  # its process had no file descriptor left
    keeps_values: bool = True  # of its journal; False: each is dropped once its code has it
    siblings: Siblings = field(default_factory=Siblings)  # what its code does at the same time
    compensations: Compensations | None = None  # of a run that undoes what it did
    interruptions: Interruptions = field(default_factory=Interruptions)
    caught: CaughtFailures = field(default_factory=CaughtFailures)
    answers: Answers = field(default_factory=Answers)
    redact: Redaction = field(default_factory=Redaction)  # takes out secrets that it has read
    on_end: Callable[[str], None] = lambda task_id: None  # called when its end is about to be written
    _open: dict[str, None] = field(default_factory=dict)  # keys of steps under way
    _recalled: int = 0  # steps that the journal had
    _recalling: int = 0  # of these, how many wait for their value
    _replay: Replay | None = None

    @property
    def replay(self) -> Replay:
        """Its journal. Made on first use: many runs have no step."""
        if self._replay is None:
            self._replay = Replay(self.task, self.claimed.journal, self.keeps_values, self.redact)
            if self.compensations is not None:
                self._replay.ignore_order()
        return self._replay

    def unused(self, *more: str) -> list[str]:
        """As `Replay.unused`."""
        return [] if self._replay is None and not self.claimed.journal else self.replay.unused(*more)

    @property
    def task(self) -> Task:
        """The task as it was claimed."""
        return self.claimed.task

    @property
    def number(self) -> int:
        """The attempt's number, from 1."""
        return self.claimed.task.attempt

    @property
    def fence(self) -> Fence:
        """What each of its writes carries."""
        return self.claimed.task.fence

    @property
    def was_suspended(self) -> bool:
        """Whether the agent has asked something before; what the engine asked for itself does not count."""
        return any(not q.by_engine for q in self.claimed.answers)

    async def run_blocking(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(*args, **kwargs)` in a thread, with the caller's context variables.

        A cancelled caller stops waiting at once; the thread runs on, and its result is dropped.
        """
        future = self.executor.submit(copy_context().run, partial(fn, *args, **kwargs))
        return await awaited.result_of(future)

    async def measured(self, measure: Callable[[Any, str, Bounds], Any], value: Any, name: str) -> Any:
        """What a measure of `agent_code.values` makes of a value: in a thread where that is large."""
        if self.costly is None or not values.is_large(value):
            return measure(value, name, self.bounds)
        return await self.costly.do(self.task.org_id, measure, value, name, self.bounds)

    def check(self) -> None:
        """Raise `Cancelled` when the attempt must leave: at every step, so that a cancellation ends threads too."""
        self.refuse_others()
        left = self.seconds_left()
        if left is not None and left < 0:
            self.leave("timeout")  # its code may have swallowed the cancellation that came with it
        if self.ended_by is not None:
            raise Cancelled(self.ended_by)

    def refuse_others(self) -> None:
        """Raise `AgentError` in the code of another run, which has this one's context."""
        caller = RUN.get()
        if caller is not None and caller != self.task.id:
            raise AgentError(
                f"This context belongs to run {self.task.id}. A run must use the context it was given: "
                "do not keep one in a global.",
                code="context_of_another_run",
            )

    async def ready(self) -> None:
        """Return when this process may act for the run, or raise `Cancelled` when the attempt must leave.

        A process that was paused past its lease waits here for its heartbeat to find out, before it does what
        another may have done meanwhile. So does one whose database is away for that long.
        """
        self.check()
        while self.lease is not None and not self.lease.valid:
            await self.lease.changed()
            self.check()

    def now(self) -> float:
        """The database's time, in epoch seconds."""
        return self.store.db.clock.now()

    def seconds_left(self) -> float | None:
        """Seconds until the deadline, by the monotonic clock; None without one."""
        return None if self.ends_at is None else self.ends_at - time.monotonic()

    def leave(self, why: str) -> None:
        """Make the attempt end at its next await or step."""
        self.ended_by = self.ended_by or why
        if self.lease is not None:
            self.lease.wake()

    # -- fenced writes -------------------------------------------------------------------------------------

    async def end_with(self, batch: Callable[..., Any], command: Any) -> Any:
        """As `write`, for the command that ends this attempt."""
        if self.output is not None and self.output.pending:
            await self.output.flush()
        self.on_end(self.task.id)
        return await self._write(batch, command)

    async def write(self, batch: Callable[..., Any], command: Any) -> Any:
        """Run one fenced command of `runyard_common.services` and wait for its commit.

        A database that is away is waited for. Should only the answer to a commit have been lost, the fence or
        the journal turns the second try into nothing.
        """
        if self.output is not None and self.output.pending:
            await self.output.flush()  # what was printed before comes before
        return await self._write(batch, command)

    async def keep_output(self, events: tuple[Event, ...]) -> None:
        """Store what the code has printed and logged, unless the run is over or another's.

        Then they are dropped, and no more: this may be called beside the code, which has to be interrupted. What the
        code stores next finds out, or the worker's heartbeat.
        """
        command = self.redact(steps.Emit(self.task.id, self.fence, clean(events)))
        try:
            await patiently(
                partial(self.writer.call, steps.emit, command), lambda: self.ended_by, self.task.id
            )
        except StaleFence:
            pass

    async def _write(self, batch: Callable[..., Any], command: Any) -> Any:
        call = partial(self.writer.call, batch, self.redact(command))
        try:
            return await patiently(call, lambda: self.ended_by, self.task.id)
        except StaleFence as lost:
            if self.ended_by is None:
                self.leave((await ownership.reasons(self.store, [self.task.id]))[self.task.id])
            raise Cancelled("this attempt no longer owns its task") from lost

    async def emit(self, *events: Event) -> None:
        """Append events (type, data) to the task's log."""
        await self.ready()
        await self.write(steps.emit, steps.Emit(self.task.id, self.fence, clean(events)))

    def token(self, data: dict[str, Any]) -> None:
        """Send a live-only delta, unless the attempt is over or may be."""
        if self.ended_by is None and (self.lease is None or self.lease.valid):
            self.tokens.token(self.task.id, self.number, self.redact(json_form.convert(data)))

    async def once(self, step: Step, work: Callable[[], Awaitable[Any]]) -> Any:
        """The journaled result of `work()`, which runs at most once across crashes (irreversible) or until done.

        The result is returned in JSON form, as a replay would.
        """
        return await self.first(step, lambda placed: self._run_once(placed, work))

    async def first(self, step: Step, do: Callable[[Step], Awaitable[Any]]) -> Any:
        """The journaled result of a step, or what `do` gives, which puts the end of the step on record."""
        await self.ready()
        entry = await self.recall(step.key, step.kind)
        if entry is not None:
            return replayed(entry, step.name)
        self.refuse_drained()
        step = self.placed(replace(step, detail=handling(self.concurrently(step.detail))))
        with self.under_way(step.key), self.caught.noting(step), spans.of_step(self.task, step, self.redact):
            return await do(step)

    def refuse_drained(self) -> None:
        """Raise `Suspended` where the worker leaves: nothing more is begun."""
        if self.draining:
            raise Suspended(Ended(Outcome.HANDED_OVER))

    def concurrently(self, detail: dict[str, Any] | None) -> dict[str, Any] | None:
        """The detail of a step that begins now, marked where others are under way, with the step around it."""
        return enclosed({**(detail or {}), CONCURRENT: True} if self._is_concurrent else detail)

    @property
    def _is_concurrent(self) -> bool:
        """Whether its code may make calls in another order the next time."""
        return bool(self._open) or self.siblings.several or GATHERED.get() or BRANCHED.get()

    @property
    def is_branched(self) -> bool:
        """Whether other tasks or threads of the code may call before the one that does."""
        # A call of a `gather` has an order of its own.
        return BRANCHED.get() or (self.siblings.has_others and not GATHERED.get())

    @contextmanager
    def under_way(self, key: str) -> Generator[None]:
        """Inside, this step is under way."""
        self._open[key] = None
        try:
            yield
        finally:
            self._open.pop(key, None)

    async def _run_once(self, step: Step, work: Callable[[], Awaitable[Any]]) -> Any:
        if begun := step.effect == "irreversible":
            await self.begin(step)
        try:
            with inside(self.task.id, step):
                result = await work()
            value = self.redact(await self.measured(values.step_result, result, step.name))
        except Exception as error:
            within(error, f"step {values.shown(step.name)}")
            if begun or not (isinstance(error, AgentError) or descriptors.is_exhaustion(error)):
                await self.end(step, describe(error), state="failed")
            raise
        await self.end(step, value, events=(("step", {"name": step.name, "key": step.key}),))
        return value

    async def recall(self, key: str, kind: str, concurrent: bool = False) -> JournalEntry | None:
        """As `Replay.recall`, with the value, which may have to be read first. Thousands in a row let others run."""
        entry = self.replay.recall(key, kind, concurrent or self._recalling > 0 or self._is_concurrent)
        if entry is None:
            await self._refuse_new(key, kind)
            return None
        self._recalled += 1
        self._recalling += 1
        try:
            if isinstance(entry.value, Unread):
                entry = await self.recorded(key)
            elif self._recalled % _MOST_RECALLED == 0:
                await asyncio.sleep(0)
        finally:
            self._recalling -= 1
        self.replay.forget(key)
        return entry

    async def _refuse_new(self, key: str, kind: str) -> None:
        """Raise `Suspended` in a run that is undone: only its compensations do what is not on record."""
        has_entry = kind not in WITHOUT_ENTRY or (kind == "start" and self.replay.entry(key) is None)
        if self.compensations is not None and has_entry and not INSIDE.get():
            await self.siblings.settle()
            raise Suspended(Ended(Outcome.COMPENSATED))

    async def recorded(self, key: str) -> JournalEntry | None:
        """What the journal holds under `key`, with its value, which may have to be read first."""
        entry = self.replay.entry(key)
        while entry is not None and isinstance(entry.value, Unread):
            read = partial(in_engine_thread, self._values, self.replay.unread(key, MOST_BYTES, _MOST_READ))
            self.replay.fill(await patiently(read, lambda: self.ended_by, self.task.id))
            entry = self.replay.entry(key)
        return entry

    def _values(self, keys: Sequence[str]) -> dict[str, Any]:
        with self.store.read() as conn:
            return journal.values(conn, self.task.id, keys)

    def placed(self, step: Step) -> Step:
        """The step in its place in the journal, which is the order of beginning."""
        return step if step.pos else replace(step, pos=self.replay.next_pos())

    async def begin(self, step: Step) -> None:
        """Put on record that a step begins, before it does."""
        step = self.placed(step)
        again = self.replay.entry(step.key) is not None
        await self.write(steps.begin, steps.Begin(self.task.id, self.fence, step, again))
        self.replay.remember(step, "begun", None)

    async def end(self, step: Step, value: Any, *, state: str = "done", events: Sequence[Event] = ()) -> None:
        """Put a step's result on record, with the events that belong to it."""
        command = self.ending(step, value, state, events)
        await self.write(steps.end, command)
        self.replay.remember(command.step, state, value)

    def ending(self, step: Step, value: Any, state: str = "done", events: Sequence[Event] = ()) -> steps.End:
        """What puts a step's result on record."""
        step = self.placed(step)
        begun = self.replay.entry(step.key) is not None
        return steps.End(self.task.id, self.fence, step, value, state, begun, clean(events))

    def answer(self, key: str) -> Question | None:
        """The question or review asked under `key`, once it was answered."""
        return self.answers.of(key, self.claimed.answers)
