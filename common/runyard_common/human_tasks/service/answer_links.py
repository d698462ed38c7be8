"""Answer links: a person without a key answers one question, once, within a time."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import AnswerLink, Question
from runyard_common.human_tasks.service import answers
from runyard_common.human_tasks.service.answers import Decision
from runyard_common.identity.queries import identity
from runyard_common.identity.service import caps
from runyard_common.values.errors import NotFound, RunyardError

#: How long a link lives unless another time is asked for, in seconds, and at most.
LIFETIME: Final = 7 * 86_400.0
LONGEST: Final = 30 * 86_400.0


class LinkGone(RunyardError):
    """This link was used, has expired, or its question is no longer open, or its organisation is closed."""

    status = 410
    code = "link_gone"
    title = "Gone"


@dataclass(frozen=True, slots=True)
class Link:
    """A link just made: the only time its token is known. `expires_at` is in epoch seconds."""

    token: str
    question_id: str
    expires_at: float


def create(
    tx: Tx, org_id: str, question_id: str, lifetime_s: float = LIFETIME, by: str | None = None
) -> Link:
    """Make a link to an open question. Errors: `NotFound` question_not_found, `Conflict` too_many_links."""
    question = questions.get(tx.scope(org_id), question_id)
    if question is None or question.state != "open":
        raise NotFound("There is no such open question.", code="question_not_found", field="question_id")
    caps.check(tx, org_id, "links", of=question_id)
    token = secrets.token_urlsafe(32)
    expires_at = tx.now + min(lifetime_s, LONGEST)
    questions.put_link(tx, AnswerLink(_hash(token), org_id, question_id, expires_at))
    if by is not None:
        identity.audit(tx, org_id, by, "question.link", question_id)
    return Link(token, question_id, expires_at)


def look(conn: Connection, token: str, now: float) -> Question:
    """The open question behind a token. Errors: `NotFound` link_not_found, `LinkGone`."""
    link = questions.get_link(conn, _hash(token))
    if link is None:
        raise NotFound("There is no such link.", code="link_not_found")
    question = questions.get(OrgScope(conn, link.org_id), link.question_id)
    organisation = identity.organisation(conn, link.org_id)
    if (
        organisation is None
        or not organisation.active
        or link.used_at is not None
        or link.expires_at <= now
        or question is None
        or question.state != "open"
    ):
        raise LinkGone
    return question


def answer(tx: Tx, token: str, value: Any) -> str:
    """Answer the question behind a token with `value`, or decide a review with a `Decision`. The task's id.

    Errors: those of `look`, `answers.post_message` and `answers.review`; a refused answer leaves the link usable.
    """
    question = look(tx.conn, token, tx.now)
    if not questions.use_link(tx, _hash(token)):
        raise LinkGone
    org_id, task_id, by = question.org_id, question.task_id, f"link:{question.id}"
    if isinstance(value, Decision):
        answers.review(tx, org_id, task_id, value, by, question.id)
    else:
        answers.post_message(tx, org_id, task_id, value, by, question.id)
    return task_id


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
