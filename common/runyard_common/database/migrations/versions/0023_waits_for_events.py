"""runs wait for events from outside, and for several children at once."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "awaited_parts",
        sa.Column("task_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("ref", sa.String(200), primary_key=True),
        sa.Column("place", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Double(), nullable=True),
        sa.Column("urgent", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_awaited_ref", "awaited_parts", ["ref"], **_where("kind = 'child'"))
    op.create_table(
        "event_waits",
        sa.Column("task_id", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("org_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("address", sa.String(300), nullable=False),
        sa.Column("session_id", sa.String(64), nullable=True),
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("event_id", sa.String(64), nullable=True),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
    )
    op.create_index(
        "ix_event_waits_open", "event_waits", ["org_id", "name", "address"], **_where("closed_at IS NULL")
    )
    op.create_table(
        "sent_events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("org_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("address", sa.String(300), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("sent_by", sa.String(128), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_sent_events_address", "sent_events", ["org_id", "name", "address", "id"])
    op.create_index("ix_sent_events_expiry", "sent_events", ["expires_at"])


def downgrade() -> None:
    """Undo: runs that wait for events or for several children wait without end; cancel them before."""
    op.drop_table("sent_events")
    op.drop_table("event_waits")
    op.drop_table("awaited_parts")
