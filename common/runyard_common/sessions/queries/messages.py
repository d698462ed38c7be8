"""Conversation lines: of a task, and in order across the tasks of a session."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from runyard_common.database import pages, rows
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.tasks import Head
from runyard_common.sessions.rules import Line, Message
from runyard_common.tables import query as tables
from runyard_common.values.ids import uuid7

_T, _SESSION = tables.Message, tables.Session
_COLUMNS = rows.columns(Message, _T)
_COUNTED = (
    update(_SESSION)
    .where(_SESSION.id == bindparam("s"))
    .values(last_seq=_SESSION.last_seq + bindparam("n"), updated_at=bindparam("at"))
    .returning(_SESSION.last_seq)
)
_MOST_COPIED = 10_000
_HANDOFF = "handoff"


def append_lines(tx: Tx, kept: Sequence[tuple[Head, Sequence[Line]]]) -> None:
    """Append lines written by tasks; those of a session continue its order."""
    insert_many(tx, [_message(tx, head, line) for head, lines in kept for line in lines])


def _message(tx: Tx, head: Head, line: Line) -> Message:
    return Message(
        uuid7(),
        head.org_id,
        head.id,
        head.agent_id,
        head.session_id,
        line.role,
        line.type,
        line.content,
        tx.now,
    )


def insert_many(tx: Tx, messages: Sequence[Message]) -> None:
    """Insert messages, numbering those that belong to a session."""
    if messages:
        tx.conn.execute(insert(_T), [rows.values(message) for message in _numbered(tx, messages)])


def _numbered(tx: Tx, messages: Sequence[Message]) -> list[Message]:
    """The messages with the next numbers of their sessions, each in its order."""
    counts = Counter(message.session_id for message in messages if message.session_id is not None)
    numbers: dict[str | None, Iterator[int]] = {}
    for session_id, count in sorted(counts.items()):
        last = tx.conn.execute(_COUNTED, {"s": session_id, "n": count, "at": tx.now}).scalar()
        if last is not None:
            numbers[session_id] = itertools.count(last - count + 1)
    return [
        replace(message, seq=next(numbers[message.session_id])) if message.session_id in numbers else message
        for message in messages
    ]


def post(tx: Tx, head: Head, text: Any, by: str | None, unread: bool, id_: str | None = None) -> str:
    """A user's message to a task; `unread` until the running agent takes it in. Its id: `id_`, or a new one."""
    message = _message(tx, head, Line("user", "user_message", text))
    message = replace(message, id=id_ or message.id, user_id=by, unread=unread)
    insert_many(tx, [message])
    return message.id


def get(scope: OrgScope, message_id: str) -> Message | None:
    """A message of the organisation."""
    query = select(*_COLUMNS).where(_T.id == message_id, _T.org_id == scope.org_id)
    return rows.first(scope.conn, query, Message)


def handoff_line(from_: str, to: str) -> Line:
    """The line of a conversation that moves to another agent."""
    return Line("assistant", _HANDOFF, {"from": from_, "to": to})


def handed_to(conn: Connection, session_id: str) -> str | None:
    """The agent that a session's conversation was handed to last, if it was to any."""
    query = select(_T.content).where(_T.session_id == session_id, _T.type == _HANDOFF)
    found = conn.execute(query.order_by(_T.seq.desc()).limit(1)).scalar()
    return str(found["to"]) if found else None


def read_unread(tx: Tx, task_id: str) -> list[Any]:
    """The messages sent to a running task since it last looked, marked as read."""
    query = select(_T.id, _T.content).where(_T.task_id == task_id, _T.unread.is_(True))
    found = tx.conn.execute(query.order_by(_T.created_at, _T.id)).all()
    if found:
        tx.conn.execute(update(_T).where(_T.id.in_([row.id for row in found])).values(unread=False))
    return [row.content for row in found]


def of_task(scope: OrgScope, task_id: str, limit: int = 10_000) -> Page[Message]:
    """A task's conversation, oldest first; of a long one the newest lines, and `more`."""
    query = select(*_COLUMNS).where(_T.task_id == task_id, _T.org_id == scope.org_id)
    return _newest(scope.conn, query.order_by(_T.created_at.desc(), _T.id.desc()), limit)


def of_session(
    scope: OrgScope,
    session_id: str,
    limit: int = 10_000,
    before: int | None = None,
    most_bytes: int | None = None,
) -> Page[Message]:
    """A session's conversation, oldest first; of a long one the newest lines (before the number `before`), and
    `more`."""
    query = select(*_COLUMNS).where(_T.session_id == session_id, _T.org_id == scope.org_id)
    if before is not None:
        query = query.where(_T.seq < before)
    return _newest(scope.conn, query.order_by(_T.seq.desc()), limit, most_bytes)


def _newest(conn: Connection, query: Select[Any], limit: int, most_bytes: int | None = None) -> Page[Message]:
    found = pages.bounded_rows(conn, query.limit(limit + 1), "id", ("content",), most_bytes, kind=Message)
    return Page(found[:limit][::-1], found.more or len(found) > limit, found.bytes)


def clear_session(tx: Tx, org_id: str, session_id: str) -> int:
    """Erase a session's conversation."""
    return int(tx.conn.execute(delete(_T).where(_T.session_id == session_id, _T.org_id == org_id)).rowcount)


def copy_session(tx: Tx, from_session: str, to_session: str, up_to: int | None = None) -> int:
    """Copy a conversation into another session (a fork), up to the line number `up_to`."""
    before = None if up_to is None else up_to + 1
    found = select(_T.seq).where(_T.session_id == from_session).order_by(_T.seq.desc())
    if before is not None:
        found = found.where(_T.seq < before)
    numbers = list(tx.conn.execute(found.limit(_MOST_COPIED)).scalars())[::-1]
    for number in numbers:  # one by one: together they may be more than fits
        query = select(*_COLUMNS).where(_T.session_id == from_session, _T.seq == number)
        line = Message(**tx.conn.execute(query).one()._mapping)
        insert_many(tx, [replace(line, id=uuid7(), session_id=to_session, task_id=None, unread=False)])
    return len(numbers)
