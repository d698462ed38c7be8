"""each limit serves the lanes that it keeps queued in turn: how far it got, and an index in that order."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from runyard_common.database.migrations.growing import create_index, drop_index

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_QUEUED: dict[str, Any] = {
    f"{dialect}_where": sa.text("status = 'queued'") for dialect in ("postgresql", "sqlite")
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "queue_places",
        sa.Column("limit_key", sa.String(200), primary_key=True),
        sa.Column("resume", sa.Integer(), primary_key=True),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.String(64), nullable=False),
        sa.Column("given", sa.BigInteger(), nullable=False),
    )
    create_index("ix_tasks_queued", "tasks", ["held_by", "resume", "lane", "priority", "id"], **_QUEUED)
    drop_index("ix_tasks_held", "tasks")


def downgrade() -> None:
    """Undo."""
    create_index("ix_tasks_held", "tasks", ["held_by", "lane", "resume", "priority", "id"], **_QUEUED)
    drop_index("ix_tasks_queued", "tasks")
    op.drop_table("queue_places")
