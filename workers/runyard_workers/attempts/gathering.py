"""Several calls of an agent's code at once, as one: in order, and with one failure policy that a replay repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar, copy_context
from typing import Any, Final

from runyard.errors import AgentError, JournalMismatch
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.waits import Group
from runyard_workers.agent_code.raised import describe
from runyard_workers.attempts.attempt import Attempt, Suspended
from runyard_workers.attempts.replay import GATHERED, SCOPE, GatheringFailed, replayed

#: The most calls of one `gather`.
MOST: Final = 10_000


class Gathering:
    """The calls of one `gather`."""

    def __init__(self, key: str, return_exceptions: bool, outer: Gathering | None) -> None:
        self.group = Group(name=key, urgent=not return_exceptions)
        self._outer = outer
        self.failure: Exception | None = None  # the first, where that ends it

    @property
    def failed(self) -> bool:
        """Whether it ends with a failure, or one that it is a call of does: none of its calls need wait."""
        return self.failure is not None or (self._outer is not None and self._outer.failed)

    def note_failure(self, failure: Exception) -> None:
        """One of its calls has failed."""
        if self.group.urgent and self.failure is None:
            self.failure = failure


#: What the running code belongs to.
GATHERING: ContextVar[Gathering | None] = ContextVar("runyard_gathering", default=None)


def group() -> Group:
    """The group of what the running code waits for."""
    gathering = GATHERING.get()
    return Group() if gathering is None else gathering.group


def refuse_failed() -> None:
    """Raise `GatheringFailed` in calls of a `gather` that has failed."""
    gathering = GATHERING.get()
    if gathering is not None and gathering.failed:
        raise GatheringFailed


async def gather(
    attempt: Attempt, calls: Sequence[Callable[[], Awaitable[Any]]], return_exceptions: bool
) -> list[Any]:
    """What these calls return, in order. Names of steps count within each call, so that their order does not matter.

    Where one fails the others are let end what they have begun; then that failure is raised, and is on record.
    With `return_exceptions` failures are among the results. Raises `Suspended` as long as calls wait.
    """
    if len(calls) > MOST:
        raise AgentError(f"ctx.gather: {MOST:,} calls at most.", code="invalid_call", call="ctx.gather")
    key = attempt.replay.key("gather")
    entry = await attempt.recall(key, "gather")
    if entry is not None and attempt.compensations is None:  # what failed has registered compensations, maybe
        attempt.replay.pass_over(key)
        return list(replayed(entry, "gather"))
    gathering = Gathering(key, return_exceptions, GATHERING.get())
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_member(call, gathering), context=_context(gathering, key, place))
        for place, call in enumerate(calls)
    ]
    try:
        if tasks:
            await asyncio.wait(tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    return await _outcome(attempt, key, tasks, gathering)


async def _member(call: Callable[[], Awaitable[Any]], gathering: Gathering) -> Any:
    try:
        return await call()
    except Exception as failure:
        gathering.note_failure(failure)
        raise


def _context(gathering: Gathering, key: str, place: int) -> Any:
    context = copy_context()
    context.run(GATHERING.set, gathering)
    context.run(GATHERED.set, True)
    context.run(SCOPE.set, f"{key}.{place}/")
    return context


async def _outcome(
    attempt: Attempt, key: str, tasks: Sequence[asyncio.Task[Any]], gathering: Gathering
) -> list[Any]:
    errors = [None if task.cancelled() else task.exception() for task in tasks]
    failure = gathering.failure
    if failure is not None:
        if not isinstance(failure, JournalMismatch) and attempt.compensations is None:
            step = Step(key, "gather", "gather", "read", attempt.concurrently(None))
            await attempt.end(step, describe(failure), state="failed")
        raise failure
    suspended = [error for error in errors if isinstance(error, Suspended)]
    if suspended:
        raise Suspended.merged(suspended)
    for task, error in zip(tasks, errors, strict=True):
        if task.cancelled():
            raise asyncio.CancelledError
        if error is not None and not isinstance(error, Exception):
            raise error
    return [task.result() if error is None else error for task, error in zip(tasks, errors, strict=True)]
