"""The one place where a task's status changes: compare, set, log the event, release what the status held.

`move` applies a batch of changes. Rows are locked first (on SQLite the write transaction is the lock), each
change is compared against the lifecycle table and its fence, and what follows from the new status (slots,
secrets, open questions, a waiting parent, deliveries) is written in the same transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from runyard_common.database.transaction import Happened, Tx
from runyard_common.human_tasks.queries import questions
from runyard_common.runs.rules.lifecycle import HOLDING, TERMINAL, Event, Status, apply
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.tables.query import Slot, Task, TaskEvent
from runyard_common.values.errors import NotFound, RunyardError, StaleFence
from runyard_common.webhooks.queries import deliveries


@dataclass(frozen=True, slots=True)
class Change:
    """One task, one lifecycle event. `fence` is None where the caller need not own the task."""

    task_id: str
    event: Event
    fence: Fence | None = None
    data: dict[str, Any] = field(default_factory=dict)  # what the logged event tells
    values: dict[str, Any] = field(default_factory=dict)  # further columns to set


COLUMNS = [getattr(Task, name) for name in Head.__slots__]
_EXTRA_ON_CLAIM = ("attempt", "claim_token", "lease_owner")


def lock(tx: Tx, task_ids: Iterable[str]) -> dict[str, Head]:
    """Lock these tasks in id order (so that two batches cannot deadlock) and read their heads."""
    ids = sorted(set(task_ids))
    query = select(*COLUMNS).where(Task.id.in_(ids)).order_by(Task.id).with_for_update()
    return {row.id: head(row) for row in tx.conn.execute(query)}


def head(row: Any) -> Head:
    """The head of a task row."""
    values = {name: getattr(row, name) for name in Head.__slots__}
    return Head(**values | {"status": Status(values["status"])})


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
    applied: list[tuple[Head, Head, Change]] = []
    for change in changes:
        try:
            before = heads[change.task_id]
            after = _decide(before, change)
        except KeyError:
            results.append(NotFound("There is no such task."))
        except RunyardError as refusal:
            results.append(refusal)
        else:
            heads[change.task_id] = after
            applied.append((before, after, change))
            results.append(after)
    if applied:
        _write(tx, applied)
        _follow(tx, applied)
    return results


def _decide(before: Head, change: Change) -> Head:
    if change.fence is not None and not owns(before, change.fence):
        raise StaleFence(task_id=before.id, attempt=change.fence.attempt)
    status = apply(before.status, change.event)
    extra = {name: change.values[name] for name in _EXTRA_ON_CLAIM if name in change.values}
    return replace(before, status=status, last_seq=before.last_seq + 1, **extra)


def _write(tx: Tx, applied: list[tuple[Head, Head, Change]]) -> None:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for before, after, change in applied:
        row = _columns(tx, before, after, change)
        groups[tuple(sorted(row))].append(row | {"task_id": after.id})
    for names, rows in groups.items():
        statement = (
            update(Task).where(Task.id == bindparam("task_id")).values({n: bindparam(n) for n in names})
        )
        tx.conn.execute(statement, rows)
    log(tx, [(after, change.event.value, change.data) for _, after, change in applied])


def _columns(tx: Tx, before: Head, after: Head, change: Change) -> dict[str, Any]:
    row: dict[str, Any] = {"status": after.status.value, "last_seq": after.last_seq, "updated_at": tx.now}
    if after.status is not Status.RUNNING:
        row |= {"lease_owner": None, "claim_token": None}
    if after.status in TERMINAL:
        row |= {"finished_at": tx.now, "secrets": None, "held_by": None}
    return row | change.values


def log(tx: Tx, entries: Sequence[tuple[Head, str, dict[str, Any]]]) -> None:
    """Append events whose numbers the heads already carry, and note them for the live stream."""
    happened = [
        Happened(
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
    tx.conn.execute(
        insert(TaskEvent),
        [
            {
                "task_id": h.task_id,
                "seq": h.seq,
                "type": h.type,
                "attempt": h.attempt,
                "data": h.data,
                "at": h.at,
            }
            for h in happened
        ],
    )
    tx.happened.extend(happened)


def _follow(tx: Tx, applied: list[tuple[Head, Head, Change]]) -> None:
    """What a new status entails: slots, questions, parents, workers to tell, deliveries enqueued."""
    released = [(b, a) for b, a, _ in applied if b.status in HOLDING and a.status not in HOLDING]
    holders = [a for _, a in released if a.limit_keys]
    if holders:
        tx.conn.execute(delete(Slot).where(Slot.task_id.in_([a.id for a in holders])))
        tx.freed.update(key for a in holders for key in a.limit_keys or ())
    ended = [a for _, a, _ in applied if a.status in TERMINAL]
    if ended:
        questions.cancel_open(tx, [a.id for a in ended if a.attempt > 0])
        tx.freed.update(f"child:{a.id}" for a in ended if a.parent_id)
        tx.freed.update(f"schedule:{a.schedule_id}" for a in ended if a.schedule_id)
    tx.stopped.extend(
        (b.lease_owner, b.id)
        for b, a, c in applied
        if b.lease_owner and b.status is Status.RUNNING and a.status in TERMINAL and c.fence is None
    )
    tx.woken += sum(1 for _, a, _ in applied if a.status is Status.PENDING)
    deliveries.enqueue(tx, [(a, c.event, c.data) for _, a, c in applied])
