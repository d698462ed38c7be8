"""Conversation lines: of a task, and in order across the tasks of a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from runyard_common.database import pages
from runyard_common.database.pages import Page, Row
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.tasks import Head
from runyard_common.tables.query import Message, Session
from runyard_common.values.ids import uuid7

_COLUMNS = Message.__table__.c
_MOST_COPIED = 10_000
_HANDOFF = "handoff"


def append_lines(tx: Tx, kept: Sequence[tuple[Head, Sequence[dict[str, Any]]]]) -> None:
    """Append lines {role, type, content} written by tasks; those of a session continue its order."""
    rows = [
        _row(tx, head.org_id, head.id, head.agent_id, head.session_id, line)
        for head, lines in kept
        for line in lines
    ]
    if rows:
        insert_rows(tx, rows)


def _row(
    tx: Tx,
    org_id: str,
    task_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    line: dict[str, Any],
) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "org_id": org_id,
        "task_id": task_id,
        "agent_id": agent_id,
        "session_id": session_id,
        "seq": None,
        "role": line["role"],
        "type": line["type"],
        "content": line["content"],
        "user_id": line.get("user_id"),
        "parent_id": line.get("parent_id"),
        "unread": line.get("unread", False),
        "created_at": tx.now,
    }


def insert_rows(tx: Tx, rows: list[dict[str, Any]]) -> None:
    """Insert message rows, numbering those that belong to a session."""
    for row in rows:
        if row["session_id"] is not None:
            row["seq"] = tx.conn.execute(
                update(Session)
                .where(Session.id == row["session_id"])
                .values(last_seq=Session.last_seq + 1, updated_at=tx.now)
                .returning(Session.last_seq)
            ).scalar()
    tx.conn.execute(insert(Message), rows)


def post(tx: Tx, head: Head, text: Any, by: str | None, unread: bool, id_: str | None = None) -> str:
    """A user's message to a task; `unread` until the running agent takes it in. Its id: `id_`, or a new one."""
    line = {"role": "user", "type": "user_message", "content": text, "user_id": by, "unread": unread}
    row = _row(tx, head.org_id, head.id, head.agent_id, head.session_id, line)
    row |= {} if id_ is None else {"id": id_}
    insert_rows(tx, [row])
    return str(row["id"])


def get(conn: Connection, org_id: str, message_id: str) -> dict[str, Any] | None:
    """The task and the time of a message of the organisation."""
    query = select(_COLUMNS.task_id, _COLUMNS.created_at)
    row = conn.execute(query.where(_COLUMNS.id == message_id, _COLUMNS.org_id == org_id)).first()
    return dict(row._mapping) if row else None


def handoff_line(from_: str, to: str) -> dict[str, Any]:
    """The line of a conversation that moves to another agent."""
    return {"role": "assistant", "type": _HANDOFF, "content": {"from": from_, "to": to}}


def handed_to(conn: Connection, session_id: str) -> str | None:
    """The agent that a session's conversation was handed to last, if it was to any."""
    query = select(Message.content).where(Message.session_id == session_id, Message.type == _HANDOFF)
    found = conn.execute(query.order_by(Message.seq.desc()).limit(1)).scalar()
    return str(found["to"]) if found else None


def read_unread(tx: Tx, task_id: str) -> list[Any]:
    """The messages sent to a running task since it last looked, marked as read."""
    query = select(Message.id, Message.content).where(Message.task_id == task_id, Message.unread.is_(True))
    rows = tx.conn.execute(query.order_by(Message.created_at, Message.id)).all()
    if rows:
        tx.conn.execute(update(Message).where(Message.id.in_([r.id for r in rows])).values(unread=False))
    return [row.content for row in rows]


def of_task(conn: Connection, task_id: str, limit: int = 10_000) -> Page[Row]:
    """A task's conversation, oldest first; of a long one the newest lines, and `more`."""
    query = select(*_COLUMNS).where(Message.task_id == task_id)
    return _newest(conn, query.order_by(Message.created_at.desc(), Message.id.desc()), limit)


def of_session(
    conn: Connection,
    session_id: str,
    limit: int = 10_000,
    before: int | None = None,
    most_bytes: int | None = None,
) -> Page[Row]:
    """A session's conversation, oldest first; of a long one the newest lines (before the number `before`), and
    `more`."""
    query = select(*_COLUMNS).where(Message.session_id == session_id)
    if before is not None:
        query = query.where(Message.seq < before)
    return _newest(conn, query.order_by(Message.seq.desc()), limit, most_bytes)


def _newest(conn: Connection, query: Select[Any], limit: int, most_bytes: int | None = None) -> Page[Row]:
    found: Page[Row] = pages.bounded_rows(conn, query.limit(limit + 1), "id", ("content",), most_bytes)
    return Page(found[:limit][::-1], found.more or len(found) > limit)


def clear_session(tx: Tx, session_id: str) -> int:
    """Erase a session's conversation."""
    return int(tx.conn.execute(delete(Message).where(Message.session_id == session_id)).rowcount)


def copy_session(tx: Tx, from_session: str, to_session: str, up_to: int | None = None) -> int:
    """Copy a conversation into another session (a fork), up to the line number `up_to`."""
    before = None if up_to is None else up_to + 1
    found = select(Message.seq).where(Message.session_id == from_session).order_by(Message.seq.desc())
    if before is not None:
        found = found.where(Message.seq < before)
    numbers = list(tx.conn.execute(found.limit(_MOST_COPIED)).scalars())[::-1]
    for number in numbers:  # one by one: together they may be more than fits
        query = select(*_COLUMNS).where(Message.session_id == from_session, Message.seq == number)
        line = dict(tx.conn.execute(query).one()._mapping)
        own = {"id": uuid7(), "session_id": to_session, "task_id": None, "unread": False}
        insert_rows(tx, [line | own])
    return len(numbers)
