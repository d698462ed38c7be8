"""Expire: unstarted work past its time to live, runs past their deadline, questions not answered in time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.service.answers import time_out
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.lifecycle import Cause, Event
from runyard_common.runs.rules.tasks import Head
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.tables.query import Task

BATCH = 200


def expire_unstarted(tx: Tx) -> int:
    """Fail tasks whose time to live passed before a worker took them."""
    ids = _ids(tx.conn, Task.expires_at <= tx.now, Task.started_at.is_(None))
    return _expire(tx, ids, "ttl_expired", "Its time to live passed before it could start.", Cause.LIMIT)


def expire_deadlines(tx: Tx) -> int:
    """Fail tasks whose deadline has passed, in any status."""
    ids = _ids(tx.conn, Task.deadline_at <= tx.now)
    return _expire(tx, ids, "deadline_exceeded", "Its deadline passed.", Cause.DEADLINE)


def expire_questions(tx: Tx) -> int:
    """Apply the declared outcome of questions and reviews past their deadline."""
    overdue = questions.overdue(tx, BATCH)
    for question in overdue:
        time_out(tx, question)
    return len(overdue)


def _ids(conn: Connection, *conditions: Any) -> list[str]:
    query = select(Task.id).where(Task.finished_at.is_(None), *conditions)
    return list(conn.execute(query.limit(BATCH)).scalars())


def _expire(tx: Tx, ids: list[str], code: str, message: str, cause: Cause) -> int:
    error = {"code": code, "message": message, "cause": cause.value}
    answers = move(
        tx, [Change(id_, Event.EXPIRE, data={"error": error}, values={"error": error}) for id_ in ids]
    )
    ended = [a.id for a in answers if isinstance(a, Head)]
    below = tasks.children(tx.conn, ended) if ended else []
    if below:
        cancel_tasks(tx, below, "its parent's time ran out")
    return len(ended)
