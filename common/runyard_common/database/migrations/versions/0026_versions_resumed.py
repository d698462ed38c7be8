"""workers name the versions of agents whose runs they carry on once no worker has them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runyard_common.database.columns import Json

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Rows of workers that processes of the version before store meanwhile name none."""
    op.add_column("workers", sa.Column("resumes", Json(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("workers", "resumes")
