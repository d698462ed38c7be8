"""Sessions and the lines of their conversations, as their rows have them. Times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation across tasks; `key` is the caller's own name for it, unique within its scope."""

    id: str
    org_id: str
    scope: str
    key: str
    agent_id: str | None
    end_user_id: str | None
    strategy: str  # enqueue, reject, interrupt
    last_seq: int
    forked_from: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Line:
    """What an agent or its user adds to a conversation."""

    role: str  # user, assistant, tool
    type: str  # user_message, agent_response, agent_thinking, agent_tool_use, question …
    content: Any


@dataclass(frozen=True, slots=True)
class Message:
    """A stored line of a conversation; `seq` orders those of a session."""

    id: str
    org_id: str
    task_id: str | None
    agent_id: str | None
    session_id: str | None
    role: str
    type: str
    content: Any
    created_at: float
    seq: int | None = None
    user_id: str | None = None
    parent_id: str | None = None
    unread: bool = False  # sent to a running task, and not yet read by its agent


def state_scope(session_id: str | None, task_id: str) -> str:
    """Whose values a run reads and writes: its session's, or its own where it has none."""
    return f"session:{session_id}" if session_id is not None else f"task:{task_id}"
