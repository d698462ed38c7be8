"""identities of a provider of single sign-on open accounts; sign-ins know how they were begun."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "identities",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_identities_user", "identities", ["user_id"])
    with op.batch_alter_table("logins", schema=None) as batch_op:
        batch_op.add_column(sa.Column("method", sa.String(length=16), nullable=True))


def downgrade() -> None:
    """Undo: accounts without a password open by `runyard members set-password` alone."""
    with op.batch_alter_table("logins", schema=None) as batch_op:
        batch_op.drop_column("method")
    op.drop_index("ix_identities_user", table_name="identities")
    op.drop_table("identities")
