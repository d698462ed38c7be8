"""Conversations that go on: a session, the task in it that waits for an answer, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from runyard_common.database.transaction import Tx
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.tasks import Filter
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.sessions.queries import sessions
from runyard_common.values.errors import Conflict, InvalidRequest
from runyard_common.values.ids import is_uuid


@dataclass(frozen=True, slots=True)
class Conversation:
    """A session, and the newest task of it that waits for an answer."""

    session: dict[str, Any]
    waiting: Task | None


def find(conn: Connection, asked: Sequence[tuple[str, str, str]]) -> list[Conversation | None]:
    """For each (organisation, session id or name, its scope) its conversation. A batch for `Reader.call`."""
    return [_find(conn, org_id, name, scope) for org_id, name, scope in asked]


def _find(conn: Connection, org_id: str, name: str, scope: str) -> Conversation | None:
    session = sessions.get(conn, org_id, name) if is_uuid(name) else None
    if session is None or session["scope"] != scope:
        session = sessions.find(conn, org_id, name, scope)
    if session is None:
        return None
    wanted = Filter(session_id=session["id"], statuses=(Status.WAITING_FOR_INPUT,))
    return Conversation(session, next(iter(tasks.page(conn, org_id, wanted, 1)), None))


def answer(tx: Tx, org_id: str, task_id: str, text: str, by: str) -> None:
    """Answer the question a task waits with: with the text, or with the JSON that it is.

    Errors: those of `answers.post_message`, and `Conflict` already_answered where another message was the answer.
    """
    try:
        reply = answers.post_message(tx, org_id, task_id, text, by)
    except InvalidRequest:
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if value == text:
            raise
        reply = answers.post_message(tx, org_id, task_id, value, by)
    if not reply.answered:
        raise Conflict("This question was answered already.", code="already_answered")
