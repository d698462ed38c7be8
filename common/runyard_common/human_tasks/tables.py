"""Questions and reviews that suspended tasks wait for, and the one-time links that answer them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text
from sqlmodel import SQLModel

from runyard_common.database import columns as c


class Question(SQLModel, table=True):
    """What a suspended task waits for: a question to its user, or a review by a person."""

    __tablename__ = "questions"
    __table_args__ = (
        Index("ux_questions_key", "task_id", "key", unique=True),
        Index(
            "ix_questions_open",
            "org_id",
            "created_at",
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        Index(
            "ix_questions_deadline",
            "deadline_at",
            postgresql_where=text("state = 'open' AND deadline_at IS NOT NULL"),
            sqlite_where=text("state = 'open' AND deadline_at IS NOT NULL"),
        ),
    )

    id: str = c.key()
    org_id: str = c.ref()
    task_id: str = c.ref()
    key: str = c.text(length=200)  # the journal entry the answer completes
    kind: str = c.text(length=16)  # question, review
    payload: Any = c.json()  # {text, schema, options …} or {action, arguments, step …}
    state: str = c.text(length=16)  # open, answered, expired, cancelled
    answer: Any = c.json()
    answered_by: str | None = c.text(nullable=True, length=128)
    on_timeout: Any = c.json()  # {outcome: fail | default | reject, value?}
    deadline_at: float | None = c.instant(nullable=True)
    created_at: float = c.instant()
    answered_at: float | None = c.instant(nullable=True)


class AnswerLink(SQLModel, table=True):
    """A one-time link by which a person without a key answers one question; only its hash is kept."""

    __tablename__ = "answer_links"
    __table_args__ = (Index("ix_answer_links_question", "question_id"),)

    token_hash: str = c.key()
    org_id: str = c.ref()
    question_id: str = c.ref()
    expires_at: float = c.instant()
    used_at: float | None = c.instant(nullable=True)
