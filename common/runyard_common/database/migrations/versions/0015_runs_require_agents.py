"""runs of Python agents name what a worker must have to run them, and workers what they have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runyard_common.database.columns import Json

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Runs that are there, and those that processes of the version before store meanwhile, name none: the
    first worker to claim one that it cannot run notes it."""
    op.add_column("tasks", sa.Column("required_agent", sa.String(272), nullable=True))
    op.add_column("workers", sa.Column("agents", Json(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("workers", "agents")
    op.drop_column("tasks", "required_agent")
