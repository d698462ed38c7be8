"""the agents of a worker that has many, a row each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "worker_agents",
        sa.Column("worker_id", sa.String(64), primary_key=True),
        sa.Column("agent", sa.String(272), primary_key=True),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("worker_agents")
