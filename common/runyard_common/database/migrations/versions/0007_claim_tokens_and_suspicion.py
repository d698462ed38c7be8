"""claims have tokens, suspects of a process's death are counted, workers report how their loop does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def upgrade() -> None:
    """Apply. Processes of the version before write rows without these columns meanwhile."""
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("claim_token", sa.String(64), nullable=True))
        batch_op.add_column(_count("suspicion"))
        batch_op.add_column(_count("releases"))
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("loop_lag_s", sa.Double(), nullable=False, server_default="0"))
        batch_op.add_column(_count("threads_held"))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_column("threads_held")
        batch_op.drop_column("loop_lag_s")
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_column("releases")
        batch_op.drop_column("suspicion")
        batch_op.drop_column("claim_token")
