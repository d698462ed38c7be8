"""workers report the release that they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("workers", sa.Column("release", sa.String(64), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("workers", "release")
