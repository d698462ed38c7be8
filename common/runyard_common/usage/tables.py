"""Tokens and money: one row per model turn."""

from __future__ import annotations

from sqlalchemy import Index

from runyard_common.database import columns as c


class Turn(c.Table):
    """What one model turn used. The key is its journal entry, so a replay cannot count it twice."""

    __tablename__ = "turns"
    __table_args__ = (Index("ix_turns_org", "org_id", "at"), Index("ix_turns_at", "at"))

    task_id = c.key()
    key = c.text(length=200, primary_key=True)
    org_id = c.ref()
    agent_id = c.ref()
    session_id = c.ref(nullable=True)
    key_id = c.ref(nullable=True)
    model = c.text(length=128)
    input_tokens = c.integer()
    output_tokens = c.integer()
    cached_tokens = c.integer()
    cost_micros = c.integer()
    at = c.instant()
