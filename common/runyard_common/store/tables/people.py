"""Conversations and the questions that suspended tasks put to people."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from runyard_common.store.tables import columns as c


class Session(SQLModel, table=True):
    """A conversation across tasks. `key` is the caller's own name for it, unique within its scope."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ux_sessions_key", "org_id", "scope", "key", unique=True),
        Index("ix_sessions_org", "org_id", "updated_at"),
    )

    id: str = c.key()
    org_id: str = c.ref()
    scope: str = c.text(length=200)  # native: ""; nugen: agent and key, so that callers cannot meet
    key: str = c.text(length=255)
    agent_id: str | None = c.ref(nullable=True)
    end_user_id: str | None = c.ref(nullable=True)
    strategy: str = c.text(length=16)  # enqueue, reject, interrupt
    last_seq: int = c.integer()
    forked_from: str | None = c.ref(nullable=True)
    meta: Any = c.json()
    created_at: float = c.instant()
    updated_at: float = c.instant()


class Message(SQLModel, table=True):
    """A line of a conversation. `history` rows carry the model library's own form for exact continuation."""

    __tablename__ = "messages"
    __table_args__ = (
        Index("ux_messages_session", "session_id", "seq", unique=True),
        Index("ix_messages_task", "task_id", "created_at"),
        Index(
            "ix_messages_unread",
            "task_id",
            postgresql_where=text("unread"),
            sqlite_where=text("unread"),
        ),
    )

    id: str = c.key()
    org_id: str = c.ref()
    task_id: str | None = c.ref(nullable=True)
    agent_id: str | None = c.ref(nullable=True)
    session_id: str | None = c.ref(nullable=True)
    seq: int | None = Field(default=None)  # order within the session
    role: str = c.text(length=16)  # user, assistant, tool, system
    type: str = c.text(length=32)  # user_message, agent_response, agent_thinking, agent_tool_use, question …
    content: Any = c.json()
    user_id: str | None = c.ref(nullable=True)
    parent_id: str | None = c.ref(nullable=True)
    unread: bool = Field(default=False)  # sent while running, read at the agent's next turn
    created_at: float = c.instant()


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
