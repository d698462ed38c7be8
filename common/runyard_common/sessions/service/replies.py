"""Conversations that go on: a session, the task in it that waits for an answer, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import events, tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.sessions.queries import messages, sessions
from runyard_common.sessions.rules import Session
from runyard_common.values.errors import Conflict, InvalidRequest


@dataclass(frozen=True, slots=True)
class Conversation:
    """A session, and the newest task of it that waits for an answer."""

    session: Session
    waiting: Task | None


def find(conn: Connection, asked: Sequence[tuple[str, str, str]]) -> list[Conversation | None]:
    """For each (organisation, session id or name, its scope) its conversation. A batch for `Reader.call`."""
    return [_find(OrgScope(conn, org_id), name, within) for org_id, name, within in asked]


def _find(scope: OrgScope, name: str, within: str) -> Conversation | None:
    session = sessions.named(scope, name, within)
    if session is None:
        return None
    wanted = Filter(session_id=session.id, statuses=(Status.WAITING_FOR_INPUT,))
    return Conversation(session, next(iter(tasks.page(scope, wanted, 1)), None))


@dataclass(frozen=True, slots=True)
class Answered:
    """A task whose question was answered, and the number of its log's last entry before that."""

    task_id: str
    session_id: str | None
    status: str
    after: int


def answered_before(scope: OrgScope, message_id: str) -> Answered | None:
    """What the message of this id was the answer to, if there is one."""
    message = messages.get(scope, message_id)
    task = tasks.get(scope, message.task_id) if message is not None and message.task_id else None
    if message is None or task is None:
        return None
    entry = events.first(scope, task.id, (Event.ANSWER.value,), since=message.created_at)
    after = task.last_seq if entry is None else entry["seq"] - 1
    return Answered(task.id, task.session_id, task.status.value, after)


def answer(tx: Tx, org_id: str, task_id: str, text: str, by: str, message_id: str | None = None) -> None:
    """Answer the question a task waits with: with the text, or with the JSON that it is. `message_id` is the id to give
    the message.

    Errors: those of `answers.post_message`, and `Conflict` already_answered where another message was the answer.
    """
    try:
        reply = answers.post_message(tx, org_id, task_id, text, by, message_id=message_id)
    except InvalidRequest:
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if value == text:
            raise
        reply = answers.post_message(tx, org_id, task_id, value, by, message_id=message_id)
    if not reply.answered:
        raise Conflict("This question was answered already.", code="already_answered")
