"""The one place where a task's status changes: compare, set, log the event, release what the status occupied.

`move` applies a batch of changes. Rows are locked first (on SQLite the write transaction is the lock), each
change is compared against the lifecycle table and its fence, and what follows from the new status (slots,
secrets, open questions, a waiting parent, deliveries) is written in the same transaction.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import bindparam, delete, select, update

from runyard_common.database.engine import LATER
from runyard_common.database.prepared import ByKeys, PreparedStatement
from runyard_common.database.transaction import CommittedEvent, NeedsOwnTransaction, Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.runs.queries import as_remembered, endings, event_log, open_calls, traced
from runyard_common.runs.rules.blocked_by import RESUME, BlockedBy
from runyard_common.runs.rules.endings import CUTTING_OFF, Known, instead
from runyard_common.runs.rules.lifecycle import OCCUPIES_SLOTS, SUSPENDED, TERMINAL, Event, Status, apply
from runyard_common.runs.rules.tasks import CODE_LENGTH, Fence, Head
from runyard_common.tables.query import Slot, Task
from runyard_common.values.errors import NotFound, RunyardError, StaleFence
from runyard_common.webhooks.queries import deliveries
from runyard_common.webhooks.queries.endpoints import LISTENED


@dataclass(frozen=True, slots=True)
class Change:
    """One task, one lifecycle event. `fence` is None where the caller need not own the task."""

    task_id: str
    event: Event
    fence: Fence | None = None
    data: dict[str, Any] = field(default_factory=dict)  # of the logged event
    values: dict[str, Any] = field(default_factory=dict)  # further columns to set


@dataclass(frozen=True, slots=True)
class _Applied:
    """A legal change: the task before and after it, and the open tool calls that it ends."""

    before: Head
    after: Head
    change: Change
    calls: Sequence[dict[str, Any]] = ()

    @property
    def entries(self) -> list[tuple[Head, Event | str, dict[str, Any]]]:
        """Its entries in the log, each with the head as it is then."""
        error = self.change.values.get("error")
        ends = [open_calls.ended_with(call, self.change.event, error) for call in self.calls]
        first = self.before.last_seq + 1
        heads = (replace(self.before, last_seq=first + place) for place in range(len(ends)))
        closed = [(head, open_calls.RESULT, data) for head, data in zip(heads, ends, strict=True)]
        return [*closed, (self.after, self.change.event, self.change.data)]


_OWN: Final = tuple(name for name in Head.__slots__ if name != "listened")
#: The columns of a `head`.
COLUMNS: Final = [*(getattr(Task, name) for name in _OWN), LISTENED]
_LOCK: Final = ByKeys(
    Task.id, lambda chosen: select(*COLUMNS).where(chosen).order_by(Task.id).with_for_update(of=Task)
)
_EXTRA_ON_CLAIM = ("attempt", "claim_token", "lease_owner")


def lock(tx: Tx, task_ids: Iterable[str]) -> dict[str, Head]:
    """Lock these tasks in id order (so that two batches cannot deadlock); their heads. Raises `NeedsOwnTransaction`.

    In a group commit the tasks of all its commands are locked at once. Those that this process remembers are not read:
    the database checks that they are as remembered, and the transaction is `Outdated` where one is not.
    """
    if tx.may_not_lock_tasks:
        raise NeedsOwnTransaction
    tx.locks_tasks = True
    ids = sorted(set(task_ids))
    if not tx.upcoming or tx.conn.in_nested_transaction():
        return _read(tx, ids)
    if missing := sorted(tx.upcoming.union(ids) - tx.locked.keys()):
        known = tx.remembered(missing)
        if known is None:
            known = _read(tx, missing)
        else:
            as_remembered.require(tx, list(known.values()))
        tx.locked |= known
    return {id_: tx.locked[id_] for id_ in ids if id_ in tx.locked}


def _read(tx: Tx, ids: Sequence[str]) -> dict[str, Head]:
    return {row.id: head(row) for row in _LOCK.all(tx.conn, ids)}


def note_locked(tx: Tx, heads: Mapping[str, Head]) -> None:
    """These tasks were locked by another statement, and are as it read them."""
    if tx.upcoming and not tx.conn.in_nested_transaction():
        tx.locked |= {id_: h for id_, h in heads.items() if id_ not in tx.locked}


def _note(tx: Tx, heads: Iterable[Head]) -> None:
    """What the transaction has made of tasks."""
    certain = not tx.conn.in_nested_transaction()  # else it may be taken back
    for one in heads:
        if certain and one.id in tx.locked:
            tx.locked[one.id] = one
        else:
            tx.locked.pop(one.id, None)
            tx.unsure.add(one.id)


def head(row: Any, listened: bool | None = None) -> Head:
    """The head of a task or its row. `listened` where the row does not have it; None: not known."""
    values = {name: getattr(row, name) for name in _OWN}
    values["status"] = Status(values["status"])
    return Head(**values, listened=getattr(row, "listened", True) if listened is None else listened)


def owns(head: Head | None, fence: Fence) -> bool:
    """Whether the claim that `fence` names owns this task: it runs, under that very number and token."""
    return (
        head is not None
        and head.status is Status.RUNNING
        and (head.attempt, head.claim_token) == tuple(fence)
    )


def move(
    tx: Tx, changes: Sequence[Change], heads: dict[str, Head] | None = None
) -> list[Head | RunyardError]:
    """Apply each change that is legal; the task's new head, or the reason this one was refused.

    `heads` are rows the caller has locked in this transaction already. Errors: `NotFound`,
    `StaleFence` (the attempt no longer owns the task), `IllegalTransition`.
    """
    if not changes:
        return []
    heads = lock(tx, (c.task_id for c in changes)) if heads is None else heads
    results: list[Head | RunyardError] = []
    applied: list[_Applied] = []
    calls, known = _cut_off(tx, changes, heads)
    for given in changes:
        try:
            change = _ending(tx, given, heads, known)
            if change is None:
                results.append(heads[given.task_id])
                continue
            made = _decide(heads[change.task_id], change, calls.get(change.task_id, ()))
        except KeyError:
            results.append(NotFound("There is no such task."))
        except RunyardError as refusal:
            results.append(refusal)
        else:
            heads[change.task_id] = made.after
            applied.append(made)
            results.append(made.after)
    if applied:
        _write(tx, applied)
        _follow(tx, applied)
    return results


def _cut_off(
    tx: Tx, changes: Sequence[Change], heads: dict[str, Head]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Known]]:
    """The tool calls that these changes end, and what the tasks undo first. Tasks that were never begun have none."""
    ending = {c.task_id for c in changes if c.event in CUTTING_OFF and c.task_id in heads}
    begun = [id_ for id_ in ending if heads[id_].attempt > 0 and heads[id_].status not in TERMINAL]
    return (open_calls.of(tx.conn, begun, tx.now), endings.known(tx.conn, begun)) if begun else ({}, {})


def _ending(tx: Tx, change: Change, heads: Mapping[str, Head], known: dict[str, Known]) -> Change | None:
    """The change, or what happens in place of it to a run that undoes what it did first; None: nothing."""
    its = known.get(change.task_id) if change.event in CUTTING_OFF else None
    if its is None:
        return change
    found = instead(its, change.event, change.data, change.values, heads[change.task_id].attempt)
    if found is None:
        return None
    if found.event is not Event.COMPENSATE:
        return Change(change.task_id, found.event, change.fence, found.data, found.values)
    if change.fence is None or owns(heads[change.task_id], change.fence):
        known[change.task_id] = Known(found.values["ending"], its.registered)
        tx.freed.add(RESUME)
    return Change(
        change.task_id, found.event, change.fence, found.data, found.values | {"blocked_by": RESUME}
    )


def _decide(before: Head, change: Change, calls: Sequence[dict[str, Any]]) -> _Applied:
    if change.fence is not None and not owns(before, change.fence):
        raise StaleFence(task_id=before.id, attempt=change.fence.attempt)
    status = apply(before.status, change.event)
    extra = {name: change.values[name] for name in _EXTRA_ON_CLAIM if name in change.values}
    calls = calls if change.event in CUTTING_OFF else ()
    after = replace(before, status=status, last_seq=before.last_seq + len(calls) + 1, **extra)
    return _Applied(before, after, change, calls)


def _write(tx: Tx, applied: list[_Applied]) -> None:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for made in applied:
        row = _columns(tx, made.after, made.change)
        groups[tuple(sorted(row))].append(row | {"task_id": made.after.id})
    for names, changed in groups.items():
        _update(names).send(tx.conn, *changed)
    log(tx, [(head, str(type_), data) for made in applied for head, type_, data in made.entries])


@functools.cache
def _update(names: tuple[str, ...]) -> PreparedStatement:
    changed = update(Task).where(Task.id == bindparam("task_id"))
    return PreparedStatement(lambda postgres: changed.values({n: bindparam(n) for n in names}))


def _columns(tx: Tx, after: Head, change: Change) -> dict[str, Any]:
    row: dict[str, Any] = {"status": after.status.value, "last_seq": after.last_seq, "updated_at": tx.now}
    if after.status is not Status.RUNNING:
        row |= {"lease_owner": None, "claim_token": None}
    if after.status in TERMINAL:
        row |= {"finished_at": tx.now, "secrets": None, "blocked_by": None}
        if (error := change.values.get("error")) and after.status is not Status.COMPLETED:
            row["error_code"] = str(error.get("code"))[:CODE_LENGTH]
    return row | change.values


def log(tx: Tx, entries: Sequence[tuple[Head, str, dict[str, Any]]]) -> None:
    """Append events whose numbers the heads already carry, and note them for the live stream."""
    committed = [
        CommittedEvent(
            head.org_id,
            head.id,
            head.last_seq,
            type_,
            head.attempt,
            data | {"status": head.status.value},
            tx.now,
        )
        for head, type_, data in entries
    ]
    event_log.write(tx, committed)
    _note(tx, (head for head, _, _ in entries))


def _follow(tx: Tx, applied: list[_Applied]) -> None:
    """What a new status entails: slots, questions, parents, workers to notify, deliveries."""
    released = [
        m for m in applied if m.before.status in OCCUPIES_SLOTS and m.after.status not in OCCUPIES_SLOTS
    ]
    holders = [m.after for m in released if m.after.limit_keys]
    if holders:
        ended_slots = delete(Slot).where(Slot.task_id.in_([a.id for a in holders]))
        tx.conn.execute(ended_slots, execution_options=LATER)
        tx.freed.update(BlockedBy.limit(key) for a in holders for key in a.limit_keys or ())
    cut_off = [m for m in applied if m.after.status in TERMINAL or m.change.event is Event.COMPENSATE]
    # A task leaves these statuses for another that goes on only when none of its questions is open.
    if asking := [m.after.id for m in cut_off if m.before.status in SUSPENDED]:
        questions.cancel_open(tx, asking)
    ended = [m.after for m in cut_off if m.after.status in TERMINAL]
    if ended:
        traced.note_ended(tx, [a.id for a in ended])
        tx.freed.update(BlockedBy.child(a.id) for a in ended if a.parent_id)
        tx.freed.update(BlockedBy.schedule(a.schedule_id) for a in ended if a.schedule_id)
    tx.cancelled.extend(
        (m.before.lease_owner, m.before.id)
        for m in cut_off
        if m.before.lease_owner and m.before.status is Status.RUNNING and m.change.fence is None
    )
    tx.left.update(m.before.id for m in applied if m.before.status is Status.RUNNING)
    ready = {m.after.id: m.change.event.value for m in applied if m.after.status is Status.PENDING}
    tx.woken += len(ready)
    traced.note_ready(tx, ready)
    deliveries.enqueue(tx, [entry for made in applied for entry in made.entries])
