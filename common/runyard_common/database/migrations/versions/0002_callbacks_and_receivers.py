"""callbacks and receivers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Apply. Nothing wrote deliveries before, so the new column needs no value for old rows."""
    op.create_table(
        "callbacks",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("task_id"),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_due")
        batch_op.add_column(sa.Column("receiver", sa.String(length=64), nullable=False))
        batch_op.drop_column("headers")
        batch_op.create_index("ix_deliveries_due", ["receiver", "next_at"], **_where("state = 'pending'"))
        batch_op.create_index("ix_deliveries_dead", ["org_id", "created_at"], **_where("state = 'dead'"))
        batch_op.create_index("ix_deliveries_leased", ["receiver"], **_where("lease_owner IS NOT NULL"))
    with op.batch_alter_table("endpoints", schema=None) as batch_op:
        batch_op.add_column(sa.Column("paced_until", sa.Double(), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("endpoints", schema=None) as batch_op:
        batch_op.drop_column("paced_until")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_leased")
        batch_op.drop_index("ix_deliveries_dead")
        batch_op.drop_index("ix_deliveries_due")
        batch_op.add_column(sa.Column("headers", sa.LargeBinary(), nullable=True))
        batch_op.drop_column("receiver")
        batch_op.create_index("ix_deliveries_due", ["next_at"], **_where("state = 'pending'"))
    op.drop_table("callbacks")
