"""One agent run for each of many arguments: children of one call, with a bound, ended by one wake-up of the parent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runyard.errors import AgentError, ChildFailed
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.waits import Group
from runyard_common.runs.service import waits
from runyard_workers.agent_code import values
from runyard_workers.agent_code.raised import describe
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.children import Children, child_output, child_request, child_step
from runyard_workers.attempts.replay import replayed

#: Children of one call, and how many of them may be at work at once.
MOST: Final = 10_000
MOST_AT_ONCE: Final = 1_000
_AT_ONCE: Final = 200  # ends that are stored together


class ChildMap:
    """One `ctx.map`."""

    def __init__(
        self,
        attempt: Attempt,
        children: Children,
        agent: str,
        args: Any,
        concurrency: Any,
        return_exceptions: bool,
        options: Mapping[str, Any],
    ) -> None:
        self._attempt = attempt
        self._children = children
        self._agent = agent
        self._call = call = f"ctx.map {values.shown(agent)}"
        self._wanted = child_request(values.given(dict(options), f"{call}, options"), call)
        self._args = _arguments(args, call, attempt)
        self._bound = _bound(concurrency, call)
        self._return_exceptions = return_exceptions
        self._key = attempt.replay.key(f"map:{agent}")
        self._ended: dict[str, Any] = {}  # by journal key: how each child ended
        self._under_way: dict[str, str] = {}  # by journal key: its task id

    async def outcome(self, group: Group) -> tuple[list[Any], Group | None]:
        """The outputs in order, or what the run has to wait for. Raises `ChildFailed`."""
        attempt = self._attempt
        entry = await attempt.recall(self._key, "map")
        if entry is not None:
            attempt.replay.pass_over(self._key)
            return list(replayed(entry, self._call)), None
        missing = await self._recall()
        if self._under_way:
            await self._end(await self._children.results(list(self._under_way.values())))
        failure = self._failure()
        if failure is not None:
            await self._stop_others()
            await attempt.end(Step(self._key, "map", self._agent, "read"), describe(failure), state="failed")
            raise failure
        if missing:
            await self._start(missing)
        if not self._under_way:
            return [self._output(key) for key in self._keys()], None
        waited = tuple(self._under_way.values())
        urgent = group.urgent or not self._return_exceptions
        return [], Group(children=waited, name=group.name, urgent=urgent)

    def _keys(self) -> list[str]:
        return [f"{self._key}.{place}" for place in range(len(self._args))]

    async def _recall(self) -> dict[str, Any]:
        """Note which children have ended and which are under way; the arguments of the others, by key."""
        missing: dict[str, Any] = {}
        for key, args in zip(self._keys(), self._args, strict=True):
            entry = await self._attempt.recall(key, "child", concurrent=True)
            if entry is not None:
                self._ended[key] = entry.value
            elif (begun := self._attempt.replay.entry(key)) is not None:
                self._under_way[key] = begun.detail["task_id"]
            else:
                missing[key] = args
        return missing

    async def _start(self, missing: Mapping[str, Any]) -> None:
        attempt = self._attempt
        attempt.refuse_drained()
        digest = hashlib.blake2b(self._key.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        map_ = f"{self._bound}:{attempt.task.id}:{digest}"
        self._under_way |= await self._children.start_many(attempt, self._agent, missing, self._wanted, map_)

    async def _end(self, ends: Mapping[str, Any]) -> None:
        """Put on record how children have ended."""
        known = [(key, id_) for key, id_ in self._under_way.items() if id_ in ends]
        for first in range(0, len(known), _AT_ONCE):
            chunk = known[first : first + _AT_ONCE]
            steps = ((child_step(key, self._agent, id_, concurrent=True), ends[id_]) for key, id_ in chunk)
            await asyncio.gather(*(self._attempt.end(step, ended) for step, ended in steps))
        for key, id_ in known:
            del self._under_way[key]
            self._ended[key] = ends[id_]

    def _failure(self) -> ChildFailed | None:
        if self._return_exceptions:
            return None
        for key in self._keys():
            if key in self._ended and self._ended[key]["status"] != "completed":
                try:
                    child_output(self._ended[key])
                except ChildFailed as failure:
                    return failure
        return None

    async def _stop_others(self) -> None:
        if self._under_way:
            command = waits.StopChildren(
                self._attempt.task.id, self._attempt.fence, tuple(self._under_way.values()), "another failed"
            )
            await self._attempt.write(waits.stop_children, command)

    def _output(self, key: str) -> Any:
        try:
            return child_output(self._ended[key])
        except ChildFailed as failure:
            return failure


def _arguments(args: Any, call: str, attempt: Attempt) -> list[Any]:
    if isinstance(args, str | bytes | Mapping) or not hasattr(args, "__iter__"):
        raise AgentError(
            f"{call}: give a list of arguments, not {type(args).__name__}.", code="invalid_call", call=call
        )
    found: Sequence[Any] = list(args)
    if len(found) > MOST:
        raise AgentError(f"{call}: {MOST:,} children at most.", code="invalid_call", call=call)
    return [values.arguments(one, call, attempt.bounds) for one in found]


def _bound(concurrency: Any, call: str) -> int:
    if (
        isinstance(concurrency, int)
        and not isinstance(concurrency, bool)
        and 1 <= concurrency <= MOST_AT_ONCE
    ):
        return concurrency
    raise AgentError(
        f"{call}: concurrency is a number from 1 to {MOST_AT_ONCE:,}.", code="invalid_call", call=call
    )
