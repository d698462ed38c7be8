"""people sign in, are invited, and stand behind keys; the audit log is read by page."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Keys made before stand for themselves: no person was behind them."""
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("ix_invitations_org", "invitations", ["org_id", "id"])
    op.create_index("ix_invitations_expires", "invitations", ["expires_at"])
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("person_id", sa.String(length=64), nullable=True))
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.add_column(sa.Column("front", sa.String(length=16), nullable=True))
        batch_op.create_index("ix_audit_page", ["org_id", "id"])
    with op.batch_alter_table("members", schema=None) as batch_op:
        batch_op.create_index("ix_members_user", ["user_id"])
    with op.batch_alter_table("logins", schema=None) as batch_op:
        batch_op.create_index("ix_logins_user", ["user_id"])
        batch_op.create_index("ix_logins_expires", ["expires_at"])


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("logins", schema=None) as batch_op:
        batch_op.drop_index("ix_logins_expires")
        batch_op.drop_index("ix_logins_user")
    with op.batch_alter_table("members", schema=None) as batch_op:
        batch_op.drop_index("ix_members_user")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_page")
        batch_op.drop_column("front")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_column("person_id")
    op.drop_index("ix_invitations_expires", table_name="invitations")
    op.drop_index("ix_invitations_org", table_name="invitations")
    op.drop_table("invitations")
