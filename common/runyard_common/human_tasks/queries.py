"""Rows of human tasks: questions and reviews that suspended tasks wait for, one-time links that answer them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from runyard_common.database import pages, rows
from runyard_common.database.pages import Page
from runyard_common.database.prepared import ByKeys
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks.rules import AnswerLink, Question
from runyard_common.runs.rules.tasks import Task
from runyard_common.tables import query as tables

_T, _LINK, _RUN = tables.Question, tables.AnswerLink, tables.Task
_COLUMNS = rows.columns(Question, _T)


_CANCEL: Final = ByKeys(
    _T.task_id,
    lambda chosen: (
        update(_T).where(chosen, _T.state == "open").values(state="cancelled", answered_at=bindparam("now"))
    ),
)


def cancel_open(tx: Tx, task_ids: Sequence[str]) -> None:
    """Close what these ended tasks still waited for."""
    if task_ids:
        _CANCEL.send(tx.conn, task_ids, now=tx.now)


def open_(tx: Tx, asked: Sequence[Question]) -> None:
    """Store open questions."""
    if asked:
        tx.conn.execute(insert(_T), [rows.values(question) for question in asked])


def close(tx: Tx, question_id: str, state: str, answer: Any, by: str | None) -> bool:
    """Record the answer if the question is still open: of two simultaneous answers one wins."""
    done = tx.conn.execute(
        update(_T)
        .where(_T.id == question_id, _T.state == "open")
        .values(state=state, answer=answer, answered_by=by, answered_at=tx.now)
    )
    return bool(done.rowcount)


def open_of(conn: Connection, task_id: str) -> list[Question]:
    """A task's open questions, oldest first."""
    query = select(*_COLUMNS).where(_T.task_id == task_id, _T.state == "open")
    return rows.every(conn, query.order_by(_T.created_at, _T.id), Question)


def of_tasks(conn: Connection, tasks: Sequence[Task]) -> dict[str, list[Question]]:
    """The questions of several tasks, open and closed, by task, oldest first."""
    query = select(*_COLUMNS).where(_T.task_id.in_([task.id for task in tasks]))
    found: dict[str, list[Question]] = {}
    for question in rows.every(conn, query.order_by(_T.created_at, _T.id), Question):
        found.setdefault(question.task_id, []).append(question)
    return found


def copy_answered(
    tx: Tx, from_task: str, to_task: str, new_id: Callable[[], str], before: float | None = None
) -> None:
    """Copy answered questions to another task, so that a retry does not ask people again; `before`: only those that
    were asked before this instant."""
    query = select(*_COLUMNS).where(_T.task_id == from_task, _T.state == "answered")
    if before is not None:
        query = query.where(_T.created_at < before)
    open_(tx, [replace(q, id=new_id(), task_id=to_task) for q in rows.every(tx.conn, query, Question)])


def get(scope: OrgScope, question_id: str) -> Question | None:
    """One question of an organisation."""
    query = select(*_COLUMNS).where(_T.id == question_id, _T.org_id == scope.org_id)
    return rows.first(scope.conn, query, Question)


def inbox(scope: OrgScope, after: str | None, limit: int, created_by: str | None = None) -> Page[Question]:
    """Open questions of an organisation, oldest first, from the one after id `after`; fewer where they are large.
    `created_by`: only those of runs that this actor started."""
    query = select(*_COLUMNS).where(_T.org_id == scope.org_id, _T.state == "open")
    if after is not None:
        query = query.where(_T.id > after)
    if created_by is not None:
        started = select(_RUN.id).where(_RUN.id == _T.task_id, _RUN.created_by == created_by)
        query = query.where(started.exists())
    query = query.order_by(_T.id).limit(limit)
    return pages.bounded_rows(scope.conn, query, "id", ("payload", "on_timeout"), kind=Question)


def overdue(tx: Tx, limit: int) -> list[Question]:
    """Open questions whose deadline has passed, locked, skipping those another process handles."""
    query = (
        select(*_COLUMNS)
        .where(_T.state == "open", _T.deadline_at <= tx.now)
        .order_by(_T.deadline_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return rows.every(tx.conn, query, Question)


def put_link(tx: Tx, link: AnswerLink) -> None:
    """Store a one-time answer link: only the hash of its token is kept."""
    tx.conn.execute(insert(_LINK), rows.values(link))


def get_link(conn: Connection, token_hash: str) -> AnswerLink | None:
    """One link by the hash of its token."""
    query = select(*rows.columns(AnswerLink, _LINK)).where(_LINK.token_hash == token_hash)
    return rows.first(conn, query, AnswerLink)


def use_link(tx: Tx, token_hash: str) -> bool:
    """Mark a link as used; False when it was used before or has expired."""
    done = tx.conn.execute(
        update(_LINK)
        .where(_LINK.token_hash == token_hash, _LINK.used_at.is_(None), _LINK.expires_at > tx.now)
        .values(used_at=tx.now)
    )
    return bool(done.rowcount)


def prune_links(tx: Tx) -> int:
    """Delete expired links; how many."""
    return int(tx.conn.execute(delete(_LINK).where(_LINK.expires_at < tx.now)).rowcount)
