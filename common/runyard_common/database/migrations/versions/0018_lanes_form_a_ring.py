"""the system's row of the lanes names the lane up to which they were served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("lanes", sa.Column("passed", sa.String(64), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("lanes", "passed")
