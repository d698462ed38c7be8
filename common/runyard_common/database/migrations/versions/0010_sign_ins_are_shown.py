"""sign-ins know when they were last used, from which address and by which browser."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Sign-ins of before have no address; when they were last used is not known before their next use."""
    with op.batch_alter_table("logins", schema=None) as batch_op:
        batch_op.add_column(sa.Column("last_used_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("address", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("agent", sa.String(length=300), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("logins", schema=None) as batch_op:
        batch_op.drop_column("agent")
        batch_op.drop_column("address")
        batch_op.drop_column("last_used_at")
