"""a delivery keeps what came of its attempts, not of the last one alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. What an older release's processes deliver beside this one is not among them."""
    op.add_column("deliveries", sa.Column("attempts", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("deliveries", "attempts")
