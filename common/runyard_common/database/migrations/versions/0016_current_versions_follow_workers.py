"""workers name the versions that they bring, and agents when their current version was chosen by a publish."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runyard_common.database.columns import Json

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Rows of workers that processes of the version before store meanwhile name none: what they can run counts
    as what they bring."""
    op.add_column("workers", sa.Column("brings", Json(), nullable=True))
    op.add_column("agents", sa.Column("chosen_at", sa.Double(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("agents", "chosen_at")
    op.drop_column("workers", "brings")
