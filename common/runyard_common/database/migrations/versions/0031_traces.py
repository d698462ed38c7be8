"""a run keeps the trace context of what asked for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("tasks", sa.Column("traceparent", sa.String(600), nullable=True))


def downgrade() -> None:
    """Undo: traces of runs under way have no parent."""
    op.drop_column("tasks", "traceparent")
