"""Replay: what is done already by a task's journal, found by name and occurrence. Nothing here writes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from hashlib import blake2b, blake2s
from typing import Any, Final

from runyard import json_form, steps
from runyard.errors import AgentError, JournalMismatch
from runyard.json_form import NotJson
from runyard_common.runs.rules.journal import ASKED, CONCURRENT, INSIDE, TOGETHER, JournalEntry, Step, Unread
from runyard_common.runs.rules.tasks import Task
from runyard_workers.agent_code.exceptions import mark, within
from runyard_workers.agent_code.raised import raised_again
from runyard_workers.agent_code.values import shown

_LONGEST_NAME: Final = 180  # characters of a name in a key
#: Whether this is the code of a call of a `gather`.
GATHERED: ContextVar[bool] = ContextVar("runyard_gathered", default=False)
#: Whether it is that of a thread or a task that the code has started: calls of others may come before.
BRANCHED: ContextVar[bool] = ContextVar("runyard_branched", default=False)
#: Entries of this kind are found by their number, and need not be asked for again (see `checkpoints`).
UNORDERED: Final = "checkpoint"
#: The key of the step whose code this is, and what the keys of steps inside it begin with.
_enclosing: ContextVar[str | None] = ContextVar("runyard_enclosing_step", default=None)
SCOPE: ContextVar[str] = ContextVar("runyard_step_scope", default="")


def idempotency_key(task_id: str, key: str) -> str:
    """What a step of this journal key passes to services, so that a repetition has no second effect."""
    return f"{task_id}-{blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


class GatheringFailed(BaseException):
    """Ends the calls of a `gather` that wait, once another of them has failed."""


@contextmanager
def inside(task_id: str, step: Step) -> Generator[None]:
    """Inside, the code of this step runs. What it does is numbered apart: a finished step is not run again, and others
    may do the same meanwhile."""
    info = steps.StepInfo(step.name, idempotency_key(task_id, step.key))
    token = _enclosing.set(step.key)
    scope = SCOPE.set(_scope(step.key))
    try:
        with steps._running(info):
            yield
    finally:
        _enclosing.reset(token)
        SCOPE.reset(scope)


def enclosed(detail: dict[str, Any] | None) -> dict[str, Any] | None:
    """The detail of a step that begins here, with the step around it."""
    outer = _enclosing.get()
    return detail if outer is None else {**(detail or {}), INSIDE: outer}


class Replay:
    """The journal as one attempt meets it. Entries made by the attempt itself are added as they are written."""

    __slots__ = (
        "_asked", "_asks", "_concurrent", "_counts", "_entries", "_inside", "_keeps_values", "_left", "_order",
        "_places", "_pos", "_redact", "_task", "_values",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        journal: Sequence[JournalEntry],
        keeps_values: bool = True,
        redact: Callable[[str], str] = str,
    ) -> None:
        """`journal` is in order of beginning. Without `keeps_values` a value is forgotten once it was recalled: an
        agent's code asks for each step once, and thousands of them may be large."""
        self._task = task
        self._entries = {entry.key: entry for entry in journal}
        self._keeps_values = keeps_values
        self._redact = redact  # takes secrets out of a name
        self._order = [entry.key for entry in journal]
        self._places = {key: place for place, key in enumerate(self._order)}
        self._values: dict[str, int] = {}  # bytes of values that were read since and not recalled yet
        #: Finished steps that this attempt did not ask for again yet, in order.
        self._left = dict.fromkeys(e.key for e in journal if e.state != "begun" and e.kind != UNORDERED)
        self._inside: dict[str, list[str]] = {}  # keys of finished steps, by the step around them
        for entry in journal:
            if outer := (entry.detail or {}).get(INSIDE):
                self._inside.setdefault(outer, []).append(entry.key)
        self._counts: dict[str, int] = {}
        self._asked: dict[
            str, dict[str, JournalEntry]
        ] = {}  # turns that are found by what they ask, unused ones
        self._asks: dict[str, int] = {}  # calls of such turns in this attempt
        self._pos = max((entry.pos for entry in journal), default=0)
        # Concurrent steps come in any order: their journal is compared at the end only.
        self._concurrent = any({CONCURRENT, TOGETHER} & (entry.detail or {}).keys() for entry in journal)

    def ignore_order(self) -> None:
        """From here on steps may come in any order, and may be missing."""
        self._concurrent = True

    def key(self, name: str) -> str:
        """The journal key of the next occurrence of `name`."""
        name = _fitting(SCOPE.get() + self._redact(name))
        self._counts[name] = self._counts.get(name, 0) + 1
        return f"{name}#{self._counts[name]}"

    def asked_key(self, name: str, asked: str, by_order: bool) -> str:
        """As `key`, of a turn that is found by what it asks: calls side by side come in any order. One that asks what
        no turn on record asked takes the one of its place where each was asked by itself, and this one is (`by_order`):
        times and random numbers may be part of a request. One in whose place nothing is on record had failed, or was
        cut off: it is asked again."""
        base = _fitting(SCOPE.get() + self._redact(name))
        if base not in self._asked:
            there = [entry for entry in self.entries if entry.key.rpartition("#")[0] == base]
            self._asked[base] = {entry.key: entry for entry in there}
            self._counts[base] = max((int(entry.key.rpartition("#")[2]) for entry in there), default=0)
        place = self._asks[base] = self._asks.get(base, 0) + 1
        turns = self._asked[base]
        details = {key: entry.detail or {} for key, entry in turns.items()}
        found = next((key for key, detail in details.items() if detail.get(ASKED) == asked), None)
        if found is None and by_order and not any(TOGETHER in detail for detail in details.values()):
            found = next((key for key in turns if key == f"{base}#{place}"), None)
        if found is None:
            self._counts[base] += 1
            return f"{base}#{self._counts[base]}"
        del turns[found]
        return found

    def question_key(self, kind: str) -> str:
        """As `key`, of the next question or review. Those of a step are numbered apart: once the step has finished its
        code does not ask again, and what is asked behind it must not get its answers."""
        step = _enclosing.get()
        own = "" if step is None else _scope(step)
        return self.key(kind if own in SCOPE.get() else own + kind)

    def next_pos(self) -> int:
        """The position of the next entry."""
        self._pos += 1
        return self._pos

    def entry(self, key: str) -> JournalEntry | None:
        """What the journal holds under `key`."""
        return self._entries.get(key)

    @property
    def entries(self) -> list[JournalEntry]:
        """The whole journal as this attempt knows it, in order of beginning."""
        return sorted(self._entries.values(), key=lambda entry: entry.pos)

    @property
    def open_irreversible(self) -> str | None:
        """The key of an irreversible step that began and has not ended, as far as the journal knows."""
        return next(
            (k for k, e in self._entries.items() if e.state == "begun" and e.effect == "irreversible"),
            None,
        )

    def recall(self, key: str, kind: str, concurrent: bool = False) -> JournalEntry | None:
        """A finished entry to replay instead of doing the work, or None. `concurrent`: other steps are under way.

        Raises `JournalMismatch` when the entry was made by another kind of call, or when this is a new step
        while finished ones are unused: the agent's code changed.
        """
        entry = self._entries.get(key)
        self._concurrent = self._concurrent or concurrent
        if entry is None:
            self.refuse_skipped(key)
            return None
        if entry.kind != kind:
            raise JournalMismatch(
                f"{key!r} was journaled as a {entry.kind} and is now a {kind}: the agent's code changed while this "
                "task was under way. Cancel it and run it again.",
                step=key,
            )
        self._left.pop(key, None)
        if entry.state == "begun":
            return None
        self._skip_inside(key)
        return entry

    def _skip_inside(self, outer: str) -> None:
        """The steps inside a finished one are part of it: they are not asked for again."""
        for key in self._inside.pop(outer, ()):
            self._left.pop(key, None)
            self._skip_inside(key)

    def unread(self, key: str, most_bytes: int, most: int) -> list[str]:
        """What to read when the value of `key` is asked for: it, and what follows as far as it may be kept."""
        bytes_left = most_bytes - sum(self._values.values())
        found: list[str] = []
        first = self._places.get(key)
        if first is None:  # this attempt has written it
            return [key]
        for place in range(first, min(first + most, len(self._order))):
            following = self._order[place]
            value = self._entries[following].value
            if not isinstance(value, Unread):
                break
            bytes_left -= value.bytes
            if found and bytes_left < 0:
                break
            found.append(following)
        return found

    def fill(self, values: Mapping[str, Any]) -> None:
        """Put values in the places of those that were unread."""
        for key, value in values.items():
            entry = self._entries[key]
            if isinstance(entry.value, Unread):
                self._values[key] = entry.value.bytes
                self._entries[key] = replace(entry, value=value)

    def forget(self, key: str) -> None:
        """Drop the value of an entry that was recalled, unless values are kept."""
        self._values.pop(key, None)
        if not self._keeps_values:
            self._entries[key] = replace(self._entries[key], value=None)

    def release(self, key: str) -> None:
        """Leave the value of an entry to the database again: it is in the conversation now."""
        size = self._values.pop(key, 0)
        entry = self._entries[key]
        if not isinstance(entry.value, Unread):
            self._entries[key] = replace(entry, value=Unread(size))

    def pass_over(self, key: str) -> None:
        """What the calls inside this one have done is not asked for again: its own outcome is on record."""
        for inner in [left for left in self._left if left.startswith(f"{key}.")]:
            self._left.pop(inner, None)
            self._skip_inside(inner)

    def refuse_skipped(self, key: str) -> None:
        """Raise `JournalMismatch` for a new call while finished entries are unused, as far as order counts."""
        if self._left and not self._concurrent:
            left = list(self._left)
            raise JournalMismatch(
                f"The agent calls {key!r} where its journal has {left[0]!r}: its code changed while this task "
                "was under way. Cancel it and run it again, or deploy the version it began with.",
                step=key,
                journaled=left,
            )

    def unused(self, *more: str) -> list[str]:
        """Finished steps that this attempt did not ask for again: at the end there must be none. `more`: further kinds
        of entries."""
        return [key for key in self._left if self._entries[key].kind in ("step", "child", *more)]

    def remember(self, step: Step, state: str, value: Any) -> None:
        """Add what this attempt has written."""
        self._left.pop(step.key, None)
        if state != "begun":
            self._skip_inside(
                step.key
            )  # what an earlier attempt did in it is part of it, asked for again or not
        kept = value if self._keeps_values else None
        self._entries[step.key] = JournalEntry.of(self._task.id, self._task.attempt, step, state, kept)


def _scope(key: str) -> str:
    return blake2s(key.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest() + "/"


def _fitting(name: str) -> str:
    """A name as it is stored. What is cut off of one with a scope is in a hash: long names that begin alike are
    occurrences of one within a scope, and not across."""
    if len(name) <= _LONGEST_NAME or not SCOPE.get():
        return name[:_LONGEST_NAME]
    digest = blake2s(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{name[: _LONGEST_NAME - 17]}~{digest}"


def replayed(entry: JournalEntry, name: str) -> Any:
    """What the finished entry of step `name` gives again: its value, or the exception it ended with."""
    if entry.state == "done":
        return entry.value
    error = raised_again(entry.value)
    within(error, f"step {shown(name)}")
    mark(error, entry.key)
    raise error


def step_name() -> str | None:
    """The name of the step whose code this is."""
    return None if _enclosing.get() is None else steps.current_step().name


def in_step() -> bool:
    """Whether this is the code of a step."""
    return _enclosing.get() is not None


def clean(events: Sequence[tuple[str, dict[str, Any]]]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Events in JSON form: half a surrogate pair from a model or a tool would stop the live stream of the process."""
    return tuple((type_, json_form.convert(data)) for type_, data in events)


def to_json(value: Any, name: str) -> Any:
    """The JSON form of what the tool `name` returned. Raises `AgentError` result_not_json."""
    try:
        return json_form.convert(value)
    except NotJson as error:
        raise AgentError(
            f"The result of {name!r} has no JSON form: {error}", code="result_not_json"
        ) from None
