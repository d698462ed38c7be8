"""Rows of human tasks: questions and reviews that suspended tasks wait for, one-time links that answer them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from runyard_common.database import pages
from runyard_common.database.pages import Page, Row
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import AnswerLink, Question

_COLUMNS = Question.__table__.c


def cancel_open(tx: Tx, task_ids: Sequence[str]) -> None:
    """Close what these ended tasks still waited for."""
    if task_ids:
        tx.conn.execute(
            update(Question)
            .where(Question.task_id.in_(task_ids), Question.state == "open")
            .values(state="cancelled", answered_at=tx.now)
        )


def open_(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Store open questions; each row gives id, org_id, task_id, key, kind, payload, on_timeout, deadline_at."""
    tx.conn.execute(insert(Question), [{"state": "open", "created_at": tx.now} | row for row in rows])


def close(tx: Tx, question_id: str, state: str, answer: Any, by: str | None) -> bool:
    """Record the answer if the question is still open: of two simultaneous answers one wins."""
    done = tx.conn.execute(
        update(Question)
        .where(Question.id == question_id, Question.state == "open")
        .values(state=state, answer=answer, answered_by=by, answered_at=tx.now)
    )
    return bool(done.rowcount)


def of_task(conn: Connection, task_id: str, only_open: bool = False) -> list[dict[str, Any]]:
    """A task's questions, oldest first."""
    query = select(*_COLUMNS).where(Question.task_id == task_id).order_by(Question.created_at, Question.id)
    if only_open:
        query = query.where(Question.state == "open")
    return [dict(row._mapping) for row in conn.execute(query)]


def of_tasks(conn: Connection, task_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The answered questions of several tasks, by task."""
    query = select(*_COLUMNS).where(Question.task_id.in_(task_ids)).order_by(Question.created_at, Question.id)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in conn.execute(query):
        found.setdefault(row.task_id, []).append(dict(row._mapping))
    return found


def copy_answered(tx: Tx, from_task: str, to_task: str, new_id: Callable[[], str]) -> None:
    """Copy answered questions to another task, so that a retry does not ask people again."""
    rows = [q for q in of_task(tx.conn, from_task) if q["state"] == "answered"]
    if rows:
        tx.conn.execute(insert(Question), [q | {"id": new_id(), "task_id": to_task} for q in rows])


def get(conn: Connection, org_id: str, question_id: str) -> dict[str, Any] | None:
    """One question of an organisation."""
    row = conn.execute(select(*_COLUMNS).where(Question.id == question_id, Question.org_id == org_id)).first()
    return dict(row._mapping) if row else None


def inbox(conn: Connection, org_id: str, after: str | None, limit: int) -> Page[Row]:
    """Open questions of an organisation, oldest first, from the one after id `after`; fewer where they are large."""
    query = select(*_COLUMNS).where(Question.org_id == org_id, Question.state == "open")
    if after is not None:
        query = query.where(Question.id > after)
    return pages.bounded_rows(conn, query.order_by(Question.id).limit(limit), "id", ("payload", "on_timeout"))


def overdue(tx: Tx, limit: int) -> list[dict[str, Any]]:
    """Open questions whose deadline has passed, locked, skipping those another process handles."""
    query = (
        select(*_COLUMNS)
        .where(Question.state == "open", Question.deadline_at <= tx.now)
        .order_by(Question.deadline_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [dict(row._mapping) for row in tx.conn.execute(query)]


def put_link(tx: Tx, token_hash: str, org_id: str, question_id: str, expires_at: float) -> None:
    """Store a one-time answer link: only the hash of its token is kept."""
    row = {"token_hash": token_hash, "org_id": org_id, "question_id": question_id, "expires_at": expires_at}
    tx.conn.execute(insert(AnswerLink), row)


def get_link(conn: Connection, token_hash: str) -> dict[str, Any] | None:
    """One link by the hash of its token."""
    row = conn.execute(select(*AnswerLink.__table__.c).where(AnswerLink.token_hash == token_hash)).first()
    return dict(row._mapping) if row else None


def use_link(tx: Tx, token_hash: str) -> bool:
    """Mark a link as used; False when it was used before or has expired."""
    done = tx.conn.execute(
        update(AnswerLink)
        .where(
            AnswerLink.token_hash == token_hash, AnswerLink.used_at.is_(None), AnswerLink.expires_at > tx.now
        )
        .values(used_at=tx.now)
    )
    return bool(done.rowcount)


def prune_links(tx: Tx) -> int:
    """Delete expired links; how many."""
    return int(tx.conn.execute(delete(AnswerLink).where(AnswerLink.expires_at < tx.now)).rowcount)
