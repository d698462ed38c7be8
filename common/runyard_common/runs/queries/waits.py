"""What queued runs wait for: the rows of children, times and events from outside, and the events that were sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, exists, insert, literal_column, or_, select, update

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.blocked_by import CHILDREN, EVENT, BlockedBy
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.rules.waits import EVENT_PART, Part, due
from runyard_common.tables import query as tables

_PART, _WAIT, _SENT, _T = tables.AwaitedPart, tables.EventWait, tables.SentEvent, tables.Task
_PARTS: Final = rows.columns(Part, _PART)
#: Written out, as in `pending`: a partial index serves.
_CHILD: Final[Any] = literal_column("'child'")
#: What keeps a run queued that has rows here.
WITH_PARTS: Final[tuple[BlockedBy, ...]] = (CHILDREN, EVENT)


# -- the parts of a wait ---------------------------------------------------------------------------------------


def put(tx: Tx, task_ids: Sequence[str], parts: Sequence[Part]) -> None:
    """Replace what these runs wait for."""
    if task_ids:
        tx.conn.execute(delete(_PART).where(_PART.task_id.in_(task_ids)))
    if parts:
        tx.conn.execute(insert(_PART), [rows.values(part) for part in parts])


def parts(conn: Connection, task_id: str, most: int) -> list[Part]:
    """What a run waits for, in part."""
    query = select(*_PARTS).where(_PART.task_id == task_id).order_by(_PART.place, _PART.kind, _PART.ref)
    return rows.every(conn, query.limit(most), Part)


def after_child(tx: Tx, child_id: str) -> list[Task]:
    """Runs that waited with others for this child, which has ended, and for nothing more. Its rows are removed.

    How many others there are does not matter: one of them that has not ended is found in the index.
    """
    waiting = rows.every(tx.conn, select(*_PARTS).where(_PART.kind == _CHILD, _PART.ref == child_id), Part)
    if not waiting:
        return []
    tx.conn.execute(delete(_PART).where(_PART.kind == _CHILD, _PART.ref == child_id))
    failed = any(part.urgent for part in waiting) and _failed(tx.conn, child_id)
    ready = [
        part.task_id for part in waiting if (part.urgent and failed) or complete(tx, part.task_id, part.place)
    ]
    return queued_with_parts(tx.conn, ready)


def _failed(conn: Connection, child_id: str) -> bool:
    ended = select(_T.id).where(_T.id == child_id, _T.status != Status.COMPLETED.value)
    return conn.execute(ended).first() is not None


def complete(tx: Tx, task_id: str, place: int) -> bool:
    """Whether a group of a run's wait has all. Where only time is missing, that is when the run goes on."""
    mine = (_PART.task_id == task_id, _PART.place == place)
    child = select(_PART.ref).join(_T.__table__, _T.id == _PART.ref)
    if tx.conn.execute(child.where(*mine, _PART.kind == _CHILD, _T.finished_at.is_(None)).limit(1)).first():
        return False
    left = rows.every(tx.conn, select(*_PARTS).where(*mine, _PART.kind != _CHILD), Part)
    left = [part for part in left if part.at is None or part.at > tx.now]
    if not left:
        return True
    at = due(left)
    if at is not None:
        earlier = or_(_T.available_at.is_(None), _T.available_at > at)
        mine_queued = (
            _T.id == task_id,
            _T.status == Status.QUEUED.value,
            _T.blocked_by.in_(WITH_PARTS),
            earlier,
        )
        tx.conn.execute(update(_T).where(*mine_queued).values(available_at=at))
    return False


def arrived(tx: Tx, task_id: str, keys: Sequence[str]) -> set[int]:
    """Remove these events from what a run waits for; the groups that they were in."""
    mine = (_PART.task_id == task_id, _PART.kind == EVENT_PART, _PART.ref.in_(keys))
    places = set(tx.conn.execute(select(_PART.place).where(*mine)).scalars())
    tx.conn.execute(delete(_PART).where(*mine))
    return places


def queued_with_parts(conn: Connection, task_ids: Sequence[str]) -> list[Task]:
    """Those of these runs that are queued for something that has rows here, without inputs."""
    if not task_ids:
        return []
    chosen = (_T.id.in_(task_ids), _T.status == Status.QUEUED.value, _T.blocked_by.in_(WITH_PARTS))
    return [tasks.task(row) for row in conn.execute(select(*tasks.LIGHT).where(*chosen))]


def ended_children(
    conn: Connection, after: tuple[str, str], limit: int
) -> tuple[list[str], tuple[str, str] | None]:
    """Children that have ended among the next `limit` rows behind (run, child), and where to go on; None: all seen.

    In order the process that ends a child lets its parent go on; what a crash has left is found here.
    """
    behind = or_(_PART.task_id > after[0], and_(_PART.task_id == after[0], _PART.ref > after[1]))
    query = select(_PART.task_id, _PART.ref, _T.finished_at).outerjoin(_T.__table__, _T.id == _PART.ref)
    query = query.where(_PART.kind == _CHILD, behind).order_by(_PART.task_id, _PART.ref).limit(limit)
    found = conn.execute(query).all()
    ended = [row.ref for row in found if row.finished_at is not None]
    return ended, (found[-1].task_id, found[-1].ref) if len(found) == limit else None


# -- waits for events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventWait:
    """A run waits for an event. Times are epoch seconds."""

    task_id: str
    key: str
    org_id: str
    name: str
    address: str
    session_id: str | None
    deadline_at: float | None
    created_at: float
    event_id: str | None = None
    closed_at: float | None = None


_WAITS: Final = rows.columns(EventWait, _WAIT)


def open_wait(tx: Tx, wait: EventWait) -> None:
    """Store a wait for an event."""
    tx.conn.execute(insert(_WAIT), rows.values(wait))


def get_wait(conn: Connection, task_id: str, key: str) -> EventWait | None:
    """One wait."""
    return rows.first(conn, select(*_WAITS).where(_WAIT.task_id == task_id, _WAIT.key == key), EventWait)


def close_wait(tx: Tx, task_id: str, key: str, event_id: str | None) -> None:
    """Note that a wait has its event, or that its time is over."""
    mine = (_WAIT.task_id == task_id, _WAIT.key == key)
    tx.conn.execute(update(_WAIT).where(*mine).values(event_id=event_id, closed_at=tx.now))


def open_waits(conn: Connection, task_ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The open waits of these runs: by run and journal key, until when."""
    query = select(_WAIT.task_id, _WAIT.key, _WAIT.deadline_at)
    query = query.where(_WAIT.task_id.in_(task_ids), _WAIT.closed_at.is_(None))
    found: dict[str, dict[str, float | None]] = {}
    for row in conn.execute(query):
        found.setdefault(row.task_id, {})[row.key] = row.deadline_at
    return found


def waits_of(conn: Connection, task_id: str) -> list[EventWait]:
    """The open waits of a run, oldest first."""
    query = select(*_WAITS).where(_WAIT.task_id == task_id, _WAIT.closed_at.is_(None))
    return rows.every(conn, query.order_by(_WAIT.created_at, _WAIT.key), EventWait)


def expected(conn: Connection, org_id: str, most: int = 1000) -> list[EventWait]:
    """The open waits of an organisation, oldest first."""
    query = select(*_WAITS).where(_WAIT.org_id == org_id, _WAIT.closed_at.is_(None))
    return rows.every(conn, query.order_by(_WAIT.created_at, _WAIT.key).limit(most), EventWait)


def waiting_for(conn: Connection, event: SentEvent) -> list[EventWait]:
    """The open waits that this event is for, one of each run: the first that was begun."""
    mine = [_WAIT.org_id == event.org_id, _WAIT.name == event.name, _WAIT.closed_at.is_(None)]
    kind, _, of = event.address.partition(":")
    if kind == "task":
        mine.append(_WAIT.task_id == of)
    elif kind == "session":
        mine.append(_WAIT.session_id == of)
    else:
        mine.append(_WAIT.address == event.address)
    found: dict[str, EventWait] = {}
    for wait in rows.every(
        conn, select(*_WAITS).where(*mine).order_by(_WAIT.created_at, _WAIT.key), EventWait
    ):
        found.setdefault(wait.task_id, wait)
    return list(found.values())


# -- events that were sent -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SentEvent:
    """An event from outside. Times are epoch seconds."""

    id: str
    org_id: str
    name: str
    address: str
    data: Any
    sent_by: str | None
    created_at: float
    expires_at: float


_EVENTS: Final = rows.columns(SentEvent, _SENT)


def keep(tx: Tx, event: SentEvent) -> None:
    """Store an event."""
    tx.conn.execute(insert(_SENT), rows.values(event))


def first_sent(tx: Tx, wait: EventWait, since: float) -> SentEvent | None:
    """The oldest event for this wait that was sent from `since` on, is kept still, and that its run did not get yet."""
    addresses = [f"task:{wait.task_id}", wait.address]
    if wait.session_id is not None:
        addresses.append(f"session:{wait.session_id}")
    got = exists().where(_WAIT.task_id == wait.task_id, _WAIT.event_id == _SENT.id)
    mine = (_SENT.org_id == wait.org_id, _SENT.name == wait.name, _SENT.address.in_(addresses))
    fresh = (_SENT.created_at >= since, _SENT.expires_at > tx.now)
    query = select(*_EVENTS).where(*mine, *fresh, ~got).order_by(_SENT.created_at, _SENT.id).limit(1)
    return rows.first(tx.conn, query, SentEvent)
