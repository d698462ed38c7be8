"""The calls of a context that may suspend the run without asking people, what all that may have in common, and calls
about the attempt itself."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar, cast

from runyard.context import Context
from runyard.errors import AgentError
from runyard_common.runs.service.attempts import Asked
from runyard_common.sessions.service.state import Op
from runyard_workers.agent_code import awaited, result_types, values
from runyard_workers.agent_code.raised import describe
from runyard_workers.attempts import (
    compensation,
    gathering,
    secrets,
    state,
    typed_results,
    user_code,
    waiting,
)
from runyard_workers.attempts.attempt import Attempt, Suspended
from runyard_workers.attempts.checkpoints import refuse_inside
from runyard_workers.attempts.children import Children, child_request
from runyard_workers.attempts.interruptions import STALLED
from runyard_workers.attempts.mapping import ChildMap
from runyard_workers.attempts.replay import SCOPE, in_step

#: Seconds that a shield may put the end of an attempt off.
LONGEST_SHIELD: Final = 60.0
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


def served(method: F) -> F:
    """A call that the engine serves; a concurrent one that suspends the run waits for its end."""

    @functools.wraps(method)
    async def call(self: SuspendingContext, *args: Any, **kwargs: Any) -> Any:
        self._attempt.refuse_others()
        with self._attempt.siblings.served():
            await _record_caught(self._attempt)
            return await method(self, *args, **kwargs)

    return cast(F, call)


def suspending(method: F) -> F:
    """A call that may suspend the run: should the code that made it catch that, no later call goes ahead."""

    @functools.wraps(method)
    async def call(self: SuspendingContext, *args: Any, **kwargs: Any) -> Any:
        self._attempt.refuse_others()
        refuse_inside(f"ctx.{method.__name__}")
        compensation.refuse_waiting(method.__name__)
        if (suspension := self.suspension) is not None:
            raise suspension
        try:
            with self._attempt.siblings.served():
                await _record_caught(self._attempt)
                return await method(self, *args, **kwargs)
        except Suspended as suspended:
            if suspended not in self._suspended:
                self._suspended.append(suspended)
            self._leaving = True
            raise Suspended.merged(self._suspended) from None

    return cast(F, call)


async def _record_caught(attempt: Attempt) -> None:
    """Put failures on record that the code has caught: it goes on, and makes a call."""
    for step, error in attempt.caught.noted():
        entry = attempt.replay.entry(step.key)
        if entry is None or entry.state == "begun":
            await attempt.end(step, describe(error), state="failed")


class SuspendingContext(Context):
    """The part of a context that waits for other runs, for time and for events, and what it has of its attempt."""

    def __init__(self, attempt: Attempt, children: Children) -> None:
        self._attempt = attempt
        self._children = children
        self._suspended: list[Suspended] = []  # why, by each of the calls that wait
        self._leaving = False  # the first of them has raised that

    @property
    def suspension(self) -> Suspended | None:
        """What the agent's code was sent away with, in one or several tasks."""
        return Suspended.merged(self._suspended) if self._leaving else None

    async def _suspend(self, suspended: Suspended) -> NoReturn:
        """Suspend the run, once the rest of its code has settled."""
        compensation.refuse_to_wait()
        self._suspended.append(suspended)
        try:
            await self._attempt.siblings.settle()
            gathering.refuse_failed()
            if suspended.ended.asked and self._attempt.siblings.none and not self._attempt.is_branched:
                self._refuse_misfit(suspended.ended.asked[0])
        except BaseException:
            self._suspended.remove(suspended)
            raise
        raise suspended

    def _compare_question(self, key: str, now: Mapping[str, Any]) -> None:
        """A replay of a recording notes here how the present question differs from that on record."""

    def _refuse_misfit(self, asked: Asked) -> None:
        """Raise `JournalMismatch` where something new is asked, and the code has left out what is on record: all of it
        has got as far as it can. What runs at once, or inside a step, may come to it later."""
        attempt = self._attempt
        if attempt.compensations is not None or SCOPE.get() or in_step():
            return
        known = attempt.claimed.answers
        if all(one.key != asked.key for one in known):
            attempt.answers.refuse_new(asked.key, asked.payload, known)
            attempt.replay.refuse_skipped(asked.key)

    @suspending
    async def start(self, agent: Any, args: Any = None, *, message: str | None = None, **options: Any) -> str:
        attempt = self._attempt
        agent, child = result_types.named_agent(agent, "ctx.start")
        call = f"ctx.start {values.shown(agent)}"
        options = result_types.bound_to(child, options)
        args = values.arguments(args, call, attempt.bounds)
        message = None if message is None else values.text(message, call, "the message")
        wanted = child_request(values.given(options, f"{call}, options"), call)
        key = attempt.replay.key(f"start:{agent}")
        await attempt.ready()
        await attempt.recall(key, "start")
        begun = attempt.replay.entry(key)
        if begun is not None:
            return str(begun.detail["task_id"])
        attempt.refuse_drained()
        return await self._children.start(attempt, key, agent, args, message, wanted, "start")

    @suspending
    async def map(
        self,
        agent: Any,
        args: Iterable[Any],
        *,
        returns: Any = ...,
        concurrency: int = 10,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[Any]:
        attempt = self._attempt
        name, child = result_types.named_agent(agent, "ctx.map")
        call = f"ctx.map {values.shown(name)}"
        kind = result_types.output_of(child, returns, call)
        options = result_types.bound_to(child, options)
        children = ChildMap(attempt, self._children, name, args, concurrency, return_exceptions, options)
        await attempt.ready()
        outputs, waited = await children.outcome(gathering.group())
        if waited is not None:
            await self._suspend(Suspended.waiting(waited))
        return await typed_results.restored_each(attempt, kind, outputs, call)

    async def gather(self, *awaitables: Awaitable[Any], return_exceptions: bool = False) -> Any:
        try:
            calls = [awaited.awaiting(one) for one in awaitables]
            return await self.gather_calls(calls, return_exceptions)
        finally:
            awaited.close(awaitables)

    async def gather_calls(
        self, calls: Sequence[Callable[[], Awaitable[Any]]], return_exceptions: bool
    ) -> list[Any]:
        """As `gather`, of functions that give what is awaited."""
        self._attempt.refuse_others()
        refuse_inside("ctx.gather")
        if (suspension := self.suspension) is not None:
            raise suspension
        await self._attempt.ready()
        try:
            return await gathering.gather(self._attempt, calls, return_exceptions)
        except Suspended as suspended:
            raise self.suspension or suspended from None

    def in_thread(self, fn: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        """A call of `gather_calls` that runs a function in a thread."""
        return functools.partial(user_code.call, self._attempt, awaited.callable_(fn))

    @suspending
    async def sleep(self, seconds: float | None = None, *, until: datetime | None = None) -> None:
        waited = await waiting.sleep(self._attempt, seconds, until, gathering.group())
        if waited is not None:
            await self._suspend(Suspended.waiting(waited))

    @suspending
    async def wait_for_event(
        self, name: str, *, key: str | None = None, timeout: float | None = None, default: Any = ...
    ) -> Any:
        group = gathering.group()
        data, waited = await waiting.event(self._attempt, name, key, timeout, default, group)
        return data if waited is None else await self._suspend(Suspended.waiting(waited))

    @served
    async def _state(self, op: str, name: str, value: Any) -> Any:
        refuse_inside(f"ctx.state.{op}")
        return await state.access(self._attempt, Op(op), name, value)

    @served
    async def secret(self, name: str) -> str:
        return await secrets.read(self._attempt, name)

    def heartbeat(self, within: float | None = None) -> None:
        attempt = self._attempt
        seconds = values.seconds(within, "ctx.heartbeat", "within")
        attempt.check()
        attempt.interruptions.beat(seconds, functools.partial(attempt.leave, STALLED))

    async def _shield(self, on: bool, seconds: float) -> None:
        attempt = self._attempt
        if on:
            longest = values.seconds(seconds, "ctx.shield", "seconds") or 0.0
            if longest > LONGEST_SHIELD:
                raise AgentError(
                    f"ctx.shield: {LONGEST_SHIELD:g} seconds at most.", code="invalid_call", call="ctx.shield"
                )
            attempt.check()
            attempt.interruptions.enter(longest)
        else:
            attempt.interruptions.leave()
            if not attempt.interruptions.shielded:
                attempt.check()
