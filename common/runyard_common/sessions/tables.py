"""Sessions and their messages."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from runyard_common.database import columns as c


class Session(SQLModel, table=True):
    """A conversation across tasks. `key` is the caller's own name for it, unique within its scope."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ux_sessions_key", "org_id", "scope", "key", unique=True),
        Index("ix_sessions_org", "org_id", "updated_at"),
    )

    id: str = c.key()
    org_id: str = c.ref()
    scope: str = c.text(length=200)  # "", or what keeps the sessions of callers apart: an agent and a key
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
