"""Tokens and money: one row per model turn."""

from __future__ import annotations

from sqlalchemy import Index
from sqlmodel import SQLModel

from runyard_common.database import columns as c


class Turn(SQLModel, table=True):
    """What one model turn used. The key is its journal entry, so a replay cannot count it twice."""

    __tablename__ = "turns"
    __table_args__ = (Index("ix_turns_org", "org_id", "at"), Index("ix_turns_at", "at"))

    task_id: str = c.key()
    key: str = c.text(length=200, primary_key=True)
    org_id: str = c.ref()
    agent_id: str = c.ref()
    session_id: str | None = c.ref(nullable=True)
    key_id: str | None = c.ref(nullable=True)
    model: str = c.text(length=128)
    input_tokens: int = c.integer()
    output_tokens: int = c.integer()
    cached_tokens: int = c.integer()
    cost_micros: int = c.integer()
    at: float = c.instant()
