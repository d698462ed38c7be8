"""What an attempt writes while it runs: journal entries, events, usage, child tasks. All fenced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import events, journal
from runyard_common.runs.queries.transitions import lock, owns
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.usage import queries as usage
from runyard_common.values.errors import RunyardError, StaleFence

Entry = tuple[str, dict[str, Any]]  # event type, data


@dataclass(frozen=True, slots=True)
class Begin:
    """A step that must be on record before it runs, because it may not run twice."""

    task_id: str
    fence: Fence
    key: str
    pos: int
    kind: str
    name: str
    effect: str
    fingerprint: str | None = None
    detail: dict[str, Any] | None = None
    again: bool = False  # the entry exists from an earlier attempt and is begun anew


@dataclass(frozen=True, slots=True)
class End:
    """A step's result. `begun` says a `Begin` was written; otherwise the entry is inserted whole.

    `turn` is what a model turn used: {model, input_tokens, output_tokens, cached_tokens, cost_micros}.
    """

    task_id: str
    fence: Fence
    key: str
    pos: int
    kind: str
    name: str
    effect: str
    value: Any
    state: str = "done"
    fingerprint: str | None = None
    detail: dict[str, Any] | None = None
    begun: bool = False
    events: tuple[Entry, ...] = ()
    turn: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Emit:
    """Events an agent reports."""

    task_id: str
    fence: Fence
    events: tuple[Entry, ...] = field(default=())


def begin(tx: Tx, commands: Sequence[Begin]) -> list[RunyardError | None]:
    """Write intents, so that a crash shows them open."""
    _, answers = _fenced(tx, commands)
    known = journal.written(tx, [(c.task_id, c.key, c.fence.attempt) for c in commands])
    for c, refused in zip(commands, answers, strict=True):
        if refused is None and c.again:
            journal.reopen(tx, c.task_id, c.key, c.fence.attempt)
    rows = [
        {
            "task_id": c.task_id,
            "key": c.key,
            "pos": c.pos,
            "attempt": c.fence.attempt,
            "kind": c.kind,
            "name": c.name,
            "effect": c.effect,
            "fingerprint": c.fingerprint,
            "state": "begun",
            "detail": c.detail,
        }
        for c, refused in zip(commands, answers, strict=True)
        if refused is None and not c.again and (c.task_id, c.key) not in known
    ]
    if rows:
        journal.insert_many(tx, rows)
    return answers


def end(tx: Tx, commands: Sequence[End]) -> list[RunyardError | None]:
    """Write results with their events and usage."""
    heads, answers = _fenced(tx, commands)
    known = journal.written(tx, [(c.task_id, c.key, c.fence.attempt) for c in commands])
    accepted = [
        c
        for c, refused in zip(commands, answers, strict=True)
        # One that has ended already was committed before, and only its answer was lost.
        if refused is None and known.get((c.task_id, c.key), "begun") == "begun"
    ]
    begun = [c for c in accepted if c.begun]
    whole = [c for c in accepted if not c.begun]
    if begun:
        journal.end_many(
            tx, [{"task_id": c.task_id, "key": c.key, "state": c.state, "value": c.value} for c in begun]
        )
    if whole:
        journal.insert_many(
            tx,
            [
                {
                    "task_id": c.task_id,
                    "key": c.key,
                    "pos": c.pos,
                    "attempt": c.fence.attempt,
                    "kind": c.kind,
                    "name": c.name,
                    "effect": c.effect,
                    "fingerprint": c.fingerprint,
                    "state": c.state,
                    "detail": c.detail,
                    "value": c.value,
                    "ended_at": tx.now,
                }
                for c in whole
            ],
        )
    usage.count(tx, [(heads[c.task_id], c.key, c.turn) for c in accepted if c.turn])
    _append(tx, heads, accepted)
    return answers


def emit(tx: Tx, commands: Sequence[Emit]) -> list[RunyardError | None]:
    """Append events to the logs."""
    heads, answers = _fenced(tx, commands)
    _append(tx, heads, [c for c, refused in zip(commands, answers, strict=True) if refused is None])
    return answers


def _append(tx: Tx, heads: dict[str, Head], commands: Sequence[End | Emit]) -> None:
    entries = [(c.task_id, type_, data) for c in commands for type_, data in c.events]
    if entries:
        events.append(tx, heads, entries)


def _fenced(
    tx: Tx, commands: Sequence[Begin | End | Emit]
) -> tuple[dict[str, Head], list[RunyardError | None]]:
    heads = lock(tx, (c.task_id for c in commands))

    def check(command: Begin | End | Emit) -> RunyardError | None:
        if owns(heads.get(command.task_id), command.fence):
            return None
        return StaleFence(task_id=command.task_id, attempt=command.fence.attempt)

    return heads, [check(command) for command in commands]
