"""Checkpoint logs of agent libraries: entries of the journal that are found by number, not by the order of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NoReturn

from runyard.checkpoints import CheckpointEntry, CheckpointLog, PastCheckpoints
from runyard.errors import AgentError
from runyard.turns import ModelTurn
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import journal
from runyard_common.runs.rules.journal import JournalEntry, Step
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.service import steps
from runyard_common.usage.service import EndTurn, end_turn
from runyard_workers.agent_code import values
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended
from runyard_workers.attempts.patience import patiently
from runyard_workers.attempts.replay import UNORDERED
from runyard_workers.attempts.turns import Turns
from runyard_workers.isolation.threads import in_engine_thread

#: Events that a resumed agent reports again unless they are counted: these logs report theirs once.
_REPORTED: Final = ("custom", "progress", "log")
_COUNT: Final = "reported"
_TURN: Final = "turn"  # in an entry's detail: the number of the last model turn in it
_library: ContextVar[str | None] = ContextVar("runyard_library", default=None)


def refuse_inside(call: str) -> None:
    """Raise `AgentError` in code that its library does not run again after a crash."""
    library = _library.get()
    if library is not None:
        raise AgentError(
            f"{call} cannot be called inside {library}, which does not run finished code again: its result would not "
            "be found after a crash. Call it before or after, or use what the library has for it.",
            code="invalid_call",
            call=call,
        )


def reported_by(entries: Sequence[JournalEntry]) -> int:
    """How many of the run's reported events are from its checkpoint logs."""
    return sum(
        (entry.detail or {}).get(_COUNT, 0)
        for entry in entries
        if entry.kind == UNORDERED and entry.attempt > 0
    )


class _Numbered:
    """The entries of one log in a journal, by number."""

    def __init__(self, prefix: str, entries: Sequence[JournalEntry]) -> None:
        self._prefix = f"{prefix}/"
        own = [e for e in entries if e.kind == UNORDERED and e.key.startswith(self._prefix)]
        found = [CheckpointEntry(int(e.key[len(self._prefix) :]), e.detail or {}) for e in own]
        self.entries = sorted(found, key=lambda entry: entry.number)

    def key(self, number: int) -> str:
        return f"{self._prefix}{number}"


class RunCheckpoints(CheckpointLog):
    """See `runyard.checkpoints.CheckpointLog`."""

    def __init__(self, attempt: Attempt, name: str, turns: Callable[[], Turns]) -> None:
        """`turns` counts the run's model turns; it is asked at the first one."""
        self._attempt = attempt
        self._turns = turns
        self._name = name
        self._prefix = attempt.replay.key(name)
        self._numbered = _Numbered(self._prefix, attempt.replay.entries)
        self._last = max((entry.number for entry in self._numbered.entries), default=0)

    @property
    def entries(self) -> Sequence[CheckpointEntry]:
        return self._numbered.entries

    async def read(self, number: int) -> Any:
        key = self._numbered.key(number)
        entry = await self._attempt.recorded(key)
        if entry is None:
            raise KeyError(number)
        self._attempt.replay.release(key)
        return entry.value

    async def write(
        self,
        about: Mapping[str, Any],
        value: Any,
        *,
        events: Sequence[tuple[str, Mapping[str, Any]]] = (),
        turns: Sequence[ModelTurn] = (),
    ) -> int:
        attempt = self._attempt
        self._last += 1
        number, key = self._last, self._numbered.key(self._last)
        reported = sum(type_ in _REPORTED for type_, _ in events)
        detail = dict(about) | ({_COUNT: reported} if reported else {})
        with attempt.siblings.served():
            await attempt.ready()
            value = await attempt.measured(values.step_result, value, self._name)
            counted = [await self._turns().counted(turn) for turn in turns]
            if counted:
                detail[_TURN] = counted[-1].number
            logged = [
                (type_, dict(data) | ({"key": key} if type_ == "step" else {})) for type_, data in events
            ]
            logged = [*(event for one in counted for event in one.events), *logged]
            ending = attempt.ending(
                Step(key, UNORDERED, self._name, "idempotent", detail), value, events=logged
            )
            if counted:
                used = [one.used for one in counted]
                await attempt.write(end_turn, EndTurn(ending, used[0], more=tuple(used[1:])))
            else:
                await attempt.write(steps.end, ending)
        attempt.replay.remember(ending.step, "done", None)
        attempt.replay.release(key)
        self._numbered.entries.append(CheckpointEntry(number, about))
        return number

    async def previous(self) -> PastCheckpoints | None:
        task = self._attempt.task
        if task.session_id is None:
            return None
        read = partial(in_engine_thread, self._last_of_session)
        found: tuple[str, list[JournalEntry]] | None = await patiently(
            read, lambda: self._attempt.ended_by, task.id
        )
        return None if found is None else _PastRun(self._attempt, *found, _Numbered(self._prefix, found[1]))

    def _last_of_session(self) -> tuple[str, list[JournalEntry]] | None:
        task = self._attempt.task
        assert task.session_id is not None
        with self._attempt.store.read() as conn:
            scope = OrgScope(conn, task.org_id)
            last = journal.last_of_session(scope, task.session_id, task.agent_name, f"{self._prefix}/1")
            return None if last is None else (last, journal.outline(conn, last, 0))

    @property
    def draining(self) -> bool:
        return self._attempt.draining

    def hand_over(self) -> NoReturn:
        raise Suspended(Ended(Outcome.HANDED_OVER))

    @contextmanager
    def code_of(self, library: str) -> Iterator[None]:
        token = _library.set(library)
        try:
            yield
        finally:
            _library.reset(token)


class _PastRun(PastCheckpoints):
    """The log of another run of the session."""

    def __init__(
        self, attempt: Attempt, task_id: str, entries: Sequence[JournalEntry], numbered: _Numbered
    ) -> None:
        self._attempt, self._task_id, self._numbered = attempt, task_id, numbered

    @property
    def entries(self) -> Sequence[CheckpointEntry]:
        return self._numbered.entries

    async def read(self, number: int) -> Any:
        read = partial(
            in_engine_thread, _value, self._attempt.store, self._task_id, self._numbered.key(number)
        )
        return await patiently(read, lambda: self._attempt.ended_by, self._attempt.task.id)


def _value(store: Store, task_id: str, key: str) -> Any:
    with store.read() as conn:
        return journal.values(conn, task_id, [key])[key]
