"""Replay: what is done already by a task's journal, found by name and occurrence. Nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runyard.errors import AgentError, JournalMismatch
from runyard_common.runs.rules.journal import JournalEntry, Step
from runyard_common.runs.rules.tasks import Task
from runyard_common.values import json_form
from runyard_common.values.json_form import NotJson
from runyard_workers.agent_code.exceptions import within
from runyard_workers.agent_code.raised import raised_again
from runyard_workers.agent_code.values import shown

#: The mark, in a stored entry's detail, of a step that began while another was under way.
CONCURRENT: Final = "beside"


class Replay:
    """The journal as one attempt meets it. Entries made by the attempt itself are added as they are written."""

    def __init__(self, task: Task, journal: Sequence[JournalEntry]) -> None:
        self._task = task
        self._entries = {entry.key: entry for entry in journal}
        self._used: set[str] = set()
        self._counts: dict[str, int] = {}
        self._pos = max((entry.pos for entry in journal), default=0)
        # Concurrent steps come in any order: their journal is compared at the end only.
        self._concurrent = any((entry.detail or {}).get(CONCURRENT) for entry in journal)

    def key(self, name: str) -> str:
        """The journal key of the next occurrence of `name`."""
        name = name[:180]  # counted as it is stored: long names that begin alike are occurrences of one
        self._counts[name] = self._counts.get(name, 0) + 1
        return f"{name}#{self._counts[name]}"

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
            self._refuse_skipped(key)
            return None
        if entry.kind != kind:
            raise JournalMismatch(
                f"{key!r} was journaled as a {entry.kind} and is now a {kind}: the agent's code changed while this "
                "task was under way. Cancel it and run it again.",
                step=key,
            )
        self._used.add(key)
        return None if entry.state == "begun" else entry

    def _refuse_skipped(self, key: str) -> None:
        left = [k for k, e in self._entries.items() if k not in self._used and e.state != "begun"]
        if left and not self._concurrent:
            raise JournalMismatch(
                f"The agent calls {key!r} where its journal has {left[0]!r}: its code changed while this task "
                "was under way. Cancel it and run it again, or deploy the version it began with.",
                step=key,
                journaled=left,
            )

    def unused(self) -> list[str]:
        """Finished steps that this attempt did not ask for again: at the end there must be none."""
        return [
            k
            for k, e in self._entries.items()
            if k not in self._used and e.state != "begun" and e.kind in ("step", "child")
        ]

    def remember(self, step: Step, state: str, value: Any) -> None:
        """Add what this attempt has written."""
        self._used.add(step.key)
        self._entries[step.key] = JournalEntry.of(self._task.id, self._task.attempt, step, state, value)


def replayed(entry: JournalEntry, name: str) -> Any:
    """What the finished entry of step `name` gives again: its value, or the exception it ended with."""
    if entry.state == "done":
        return entry.value
    error = raised_again(entry.value)
    within(error, f"step {shown(name)}")
    raise error


def to_json(value: Any, name: str) -> Any:
    """The JSON form of what the tool `name` returned. Raises `AgentError` result_not_json."""
    try:
        return json_form.convert(value)
    except NotJson as error:
        raise AgentError(
            f"The result of {name!r} has no JSON form: {error}", code="result_not_json"
        ) from None
