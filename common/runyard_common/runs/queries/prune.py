"""Prune: delete what is kept no longer, a small batch at a time, so that others need not wait.

Everything that exists because a task exists is found by the task's id, the first column of an index, and no
table refers to another by a foreign key: on PostgreSQL the tables may be partitioned by ranges of these ids,
which grow with time, and a whole partition may be dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, or_, select, text, tuple_

from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.tables.query import (
    AnswerLink,
    AwaitedPart,
    Callback,
    Delivery,
    EventWait,
    Fire,
    JournalEntry,
    Message,
    Organisation,
    Question,
    Schedule,
    SentEvent,
    Session,
    Slot,
    StateValue,
    StoredFile,
    Task,
    TaskEvent,
    Turn,
)
from runyard_common.webhooks.queries import callbacks, delivery_log

#: Old rows that one look goes through.
LOOKED_AT: Final = 2_000

#: Tables whose rows belong to one task, by the column that names it.
_OWNED = (
    (TaskEvent, TaskEvent.task_id),
    (JournalEntry, JournalEntry.task_id),
    (Question, Question.task_id),
    (AwaitedPart, AwaitedPart.task_id),
    (EventWait, EventWait.task_id),
    (Callback, Callback.task_id),
    (Delivery, Delivery.task_id),
    (Fire, Fire.task_id),
    (StoredFile, StoredFile.task_id),
)

_NEXT_ORGANISATION = text("""
SELECT min(id) FROM (
    SELECT min(org_id) AS id FROM tasks WHERE finished_at IS NOT NULL AND org_id > :after
    UNION ALL
    SELECT min(id) FROM organisations WHERE id > :after
) AS orgs
""")


def next_organisation(conn: Connection, after: str) -> str | None:
    """The organisation that comes after `after` in the order of ids."""
    found = conn.execute(_NEXT_ORGANISATION, {"after": after}).scalar()
    return None if found is None else str(found)


def settings_of(conn: Connection, org_id: str) -> Any:
    """An organisation's settings."""
    return conn.execute(select(Organisation.settings).where(Organisation.id == org_id)).scalar()


def _ended(org_id: str, status: Status, before: float, limit: int) -> Any:
    """Tasks that ended before an instant, with nothing left to deliver and no parent that may look at them."""
    parent = Task.__table__.alias().c
    waiting = exists().where(Delivery.task_id == Task.id, Delivery.state == "pending")
    needed = exists().where(parent.id == Task.parent_id, parent.finished_at.is_(None))
    return (
        select(Task.id, Task.schedule_id)
        .where(Task.org_id == org_id, Task.status == status.value, Task.finished_at < before)
        .where(~waiting, ~needed)
        .order_by(Task.finished_at)
        .limit(limit)
    )


def any_task(conn: Connection, org_id: str, status: Status, before: float) -> bool:
    """Whether `choose` would find a task."""
    return conn.execute(_ended(org_id, status, before, 1)).first() is not None


@dataclass(frozen=True, slots=True)
class Place:
    """How far old rows were looked through: up to this instant, and there up to this id."""

    at: float = 0.0
    id: str = ""


START: Final = Place()


@dataclass(frozen=True, slots=True)
class Look:
    """What may go among some old rows, and the place where the next look begins."""

    ids: list[str]
    place: Place


def idle_sessions(conn: Connection, org_id: str, before: float, place: Place, limit: int) -> Look:
    """Conversations that were not continued since `before` and that no kept task belongs to."""
    old = (Session.org_id == org_id, Session.updated_at < before)
    found = _old(Session, Session.updated_at, place, *old)
    return _look(conn, found, exists().where(Task.session_id == found.c.id), limit)


def orphan_deliveries(conn: Connection, org_id: str, before: float, place: Place, limit: int) -> Look:
    """Deliveries, made before `before` and done with, that belong to no task."""
    old = (Delivery.org_id == org_id, Delivery.created_at < before, Delivery.state != "pending")
    found = _old(Delivery, Delivery.created_at, place, *old, belongs=Delivery.task_id)
    return _look(conn, found, exists().where(Task.id == found.c.belongs), limit)


def _old(table: Any, at: Any, place: Place, *conditions: Any, belongs: Any = None) -> Any:
    """The next `LOOKED_AT` rows behind a place: a million that are kept must not be looked through each time."""
    behind = (at >= place.at, or_(at > place.at, table.id > place.id))
    query = select(table.id, at.label("at"), *(() if belongs is None else (belongs.label("belongs"),)))
    return query.where(*conditions, *behind).order_by(at, table.id).limit(LOOKED_AT).subquery()


def _look(conn: Connection, found: Any, needed: Any, limit: int) -> Look:
    rows = conn.execute(select(found.c.id, found.c.at, needed).order_by(found.c.at, found.c.id)).all()
    free = [row for row in rows if not row[2]]
    if len(free) > limit:
        last = free[limit - 1]
    elif len(rows) < LOOKED_AT:
        return Look([row.id for row in free], START)
    else:
        last = rows[-1]
    return Look([row.id for row in free[:limit]], Place(last.at, last.id))


def any_turn(conn: Connection, org_id: str, before: float) -> bool:
    """Whether `remove_turns` would find one."""
    query = select(Turn.key).where(Turn.org_id == org_id, Turn.at < before).limit(1)
    return conn.execute(query).first() is not None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tasks to prune, locked."""

    task_ids: list[str]
    schedule_ids: set[str]


def choose(tx: Tx, org_id: str, status: Status, before: float, limit: int) -> Chosen:
    """Lock tasks that ended before `before`, the oldest first; those another process prunes are skipped."""
    query = _ended(org_id, status, before, limit).with_for_update(skip_locked=True, of=Task)
    rows = tx.conn.execute(query).all()
    return Chosen([row.id for row in rows], {row.schedule_id for row in rows if row.schedule_id})


def remove_tasks(tx: Tx, task_ids: Sequence[str]) -> set[str]:
    """Delete tasks with all that is theirs; the hashes of the files they had.

    Lines of a conversation stay as long as the conversation, and what was spent as long as the bill needs it.
    """
    ids = list(task_ids)
    if not ids:
        return set()
    hashes = set(
        tx.conn.execute(select(StoredFile.sha256).where(StoredFile.task_id.in_(ids)).distinct()).scalars()
    )
    asked = select(Question.id).where(Question.task_id.in_(ids))
    tx.conn.execute(delete(AnswerLink).where(AnswerLink.question_id.in_(asked)))
    tx.conn.execute(delete(Message).where(Message.task_id.in_(ids), Message.session_id.is_(None)))
    for table, column in _OWNED:
        tx.conn.execute(delete(table).where(column.in_(ids)))
    _forget_state(tx, "task", ids)
    tx.conn.execute(delete(Task).where(Task.id.in_(ids)))
    return hashes


def _forget_state(tx: Tx, kind: str, ids: Sequence[str]) -> None:
    """What agents kept in `ctx.state` for these tasks or sessions."""
    tx.conn.execute(delete(StateValue).where(StateValue.scope.in_([f"{kind}:{id_}" for id_ in ids])))


def remove_ended_of_agent(tx: Tx, org_id: str, agent_id: str, limit: int) -> int:
    """Delete ended tasks of an agent with all that is theirs, lines of conversations and deliveries too; how many.

    What their model turns used stays: it is the organisation's bill.
    """
    ended = select(Task.id).where(
        Task.org_id == org_id, Task.agent_id == agent_id, Task.finished_at.is_not(None)
    )
    ids = list(tx.conn.execute(ended.order_by(Task.id).limit(limit).with_for_update()).scalars())
    if ids:
        _forget_state(tx, "task", ids)
        delivery_log.forget(tx, ids)
        callbacks.forget(tx, ids)
        for table in (
            TaskEvent,
            JournalEntry,
            Question,
            AwaitedPart,
            EventWait,
            Message,
            Slot,
            StoredFile,
            Task,
        ):
            column = table.id if table is Task else table.task_id
            tx.conn.execute(delete(table).where(column.in_(ids)))
    return len(ids)


def unreferred(conn: Connection, hashes: Collection[str]) -> set[str]:
    """Those of these files that no task or document has."""
    if not hashes:
        return set()
    query = select(StoredFile.sha256).where(StoredFile.sha256.in_(list(hashes))).distinct()
    return set(hashes) - set(conn.execute(query).scalars())


def remove_sessions(tx: Tx, ids: Sequence[str], before: float) -> int:
    """Delete those of these conversations that are idle still, as `idle_sessions` has it."""
    used = exists().where(Task.session_id == Session.id)
    query = select(Session.id).where(Session.id.in_(ids), Session.updated_at < before, ~used)
    free = list(tx.conn.execute(query.with_for_update(skip_locked=True, of=Session)).scalars())
    if free:
        tx.conn.execute(delete(Message).where(Message.session_id.in_(free)))
        _forget_state(tx, "session", free)
    return _remove(tx, Session, free)


def remove_deliveries(tx: Tx, ids: Sequence[str]) -> int:
    """Delete those of these deliveries that are done with still: one may have been sent again."""
    done = (Delivery.id.in_(ids), Delivery.state != "pending")
    query = select(Delivery.id).where(*done).with_for_update(skip_locked=True)
    return _remove(tx, Delivery, list(tx.conn.execute(query).scalars()))


def remove_turns(tx: Tx, org_id: str, before: float, limit: int) -> int:
    """Delete what model turns before `before` cost."""
    key = (Turn.task_id, Turn.key)
    query = select(*key).where(Turn.org_id == org_id, Turn.at < before).order_by(Turn.at).limit(limit)
    rows = tx.conn.execute(query.with_for_update(skip_locked=True)).all()
    if rows:
        tx.conn.execute(delete(Turn).where(tuple_(*key).in_([tuple(row) for row in rows])))
    return len(rows)


def remove_schedules(tx: Tx, before: float, limit: int) -> int:
    """Delete schedules that finished before `before`, with their history."""
    query = (
        select(Schedule.id)
        .where(Schedule.finished_at < before)
        .order_by(Schedule.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(tx.conn.execute(query).scalars())
    if ids:
        tx.conn.execute(delete(Fire).where(Fire.schedule_id.in_(ids)))
    return _remove(tx, Schedule, ids)


def remove_idle_fires(tx: Tx, before: float, limit: int) -> int:
    """Delete what schedules have left out before `before`; fires with a task go with it."""
    chosen = select(Fire.schedule_id, Fire.due_at).where(Fire.task_id.is_(None), Fire.fired_at < before)
    rows = tx.conn.execute(chosen.limit(limit).with_for_update(skip_locked=True)).all()
    for row in rows:
        tx.conn.execute(delete(Fire).where(Fire.schedule_id == row.schedule_id, Fire.due_at == row.due_at))
    return len(rows)


def remove_events(tx: Tx, limit: int) -> int:
    """Delete events from outside whose time is over."""
    query = (
        select(SentEvent.id).where(SentEvent.expires_at < tx.now).order_by(SentEvent.expires_at).limit(limit)
    )
    return _remove(tx, SentEvent, list(tx.conn.execute(query.with_for_update(skip_locked=True)).scalars()))


def _remove(tx: Tx, table: Any, ids: list[str]) -> int:
    if ids:
        tx.conn.execute(delete(table).where(table.id.in_(ids)))
    return len(ids)
