"""Questions and reviews that suspended tasks wait for, and the one-time links that answer them."""

from __future__ import annotations

from sqlalchemy import Index

from runyard_common.database import columns as c


class Question(c.Table):
    """What a suspended task waits for: a question to its user, or a review by a person."""

    __tablename__ = "questions"
    __table_args__ = (
        Index("ux_questions_key", "task_id", "key", unique=True),
        Index(
            "ix_questions_open",
            "org_id",
            "created_at",
            **c.where("state = 'open'"),
        ),
        Index(
            "ix_questions_deadline",
            "deadline_at",
            **c.where("state = 'open' AND deadline_at IS NOT NULL"),
        ),
    )

    id = c.key()
    org_id = c.ref()
    task_id = c.ref()
    key = c.text(length=200)  # the journal entry the answer completes
    kind = c.text(length=16)  # question, review
    payload = c.json()  # {text, schema, options …} or {action, arguments, step …}
    state = c.text(length=16)  # open, answered, expired, cancelled
    answer = c.json()
    answered_by = c.text(nullable=True, length=128)
    on_timeout = c.json()  # {outcome: fail | default | reject, value?}
    deadline_at = c.instant(nullable=True)
    created_at = c.instant()
    answered_at = c.instant(nullable=True)


class AnswerLink(c.Table):
    """A one-time link by which a person without a key answers one question; only its hash is kept."""

    __tablename__ = "answer_links"
    __table_args__ = (Index("ix_answer_links_question", "question_id"),)

    token_hash = c.key()
    org_id = c.ref()
    question_id = c.ref()
    expires_at = c.instant()
    used_at = c.instant(nullable=True)
