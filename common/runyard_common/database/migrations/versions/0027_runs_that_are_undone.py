"""runs that fail or are cancelled undo what they have done before they end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("tasks", sa.Column("ending", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo: runs that compensate go on as if they had not been cancelled; let them end before."""
    op.drop_column("tasks", "ending")
