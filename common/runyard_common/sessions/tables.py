"""Sessions and their messages."""

from __future__ import annotations

from sqlalchemy import Column, Index, String

from runyard_common.database import columns as c


class Session(c.Table):
    """A conversation across tasks. `key` is the caller's own name for it, unique within its scope."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ux_sessions_key", "org_id", "scope", "key", unique=True),
        Index("ix_sessions_org", "org_id", "updated_at"),
        Index("ix_sessions_list", "org_id", "id"),
    )

    id = c.key()
    org_id = c.ref()
    scope = c.text(length=200)  # "", or what keeps the sessions of callers apart: an agent and a key
    key = c.text(length=255)
    agent_id = c.ref(nullable=True)
    end_user_id = c.ref(nullable=True)
    strategy = c.text(length=16)  # enqueue, reject, interrupt
    last_seq = c.integer()
    forked_from = c.ref(nullable=True)
    meta = c.json()
    created_at = c.instant()
    updated_at = c.instant()


class Message(c.Table):
    """A line of a conversation. `history` rows carry the model library's own form for exact continuation."""

    __tablename__ = "messages"
    __table_args__ = (
        Index("ux_messages_session", "session_id", "seq", unique=True),
        Index("ix_messages_task", "task_id", "created_at"),
        Index(
            "ix_messages_unread",
            "task_id",
            **c.where("unread"),
        ),
    )

    id = c.key()
    org_id = c.ref()
    task_id = c.ref(nullable=True)
    agent_id = c.ref(nullable=True)
    session_id = c.ref(nullable=True)
    seq = c.integer32(nullable=True)  # order within the session
    role = c.text(length=16)  # user, assistant, tool, system
    type = c.text(length=32)  # user_message, agent_response, agent_thinking, agent_tool_use, question …
    content = c.json()
    user_id = c.ref(nullable=True)
    parent_id = c.ref(nullable=True)
    unread = c.boolean(default=False)  # sent while running, read at the agent's next turn
    created_at = c.instant()


class StateValue(c.Table):
    """A small value that agents keep for the next run of a session, or of a task without one."""

    __tablename__ = "state_values"

    scope = Column(String(80), primary_key=True)  # session:<id>, task:<id>
    name = c.text(length=200, primary_key=True)
    org_id = c.ref()
    value = c.json()
    updated_at = c.instant()
