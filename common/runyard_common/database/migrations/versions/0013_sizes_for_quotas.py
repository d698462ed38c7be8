"""the bytes of manifests and kept answers are known, and what an organisation has is counted by indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runyard_common.database.migrations.growing import create_index, drop_index
from runyard_common.database.pages import byte_length

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_SIZED = {"agent_versions": "manifest", "idempotency": "body"}
_INDEXES = (
    ("ix_files_org", "files", ("org_id", "size")),
    ("ix_agent_versions_org", "agent_versions", ("org_id", "size")),
    ("ix_idempotency_org", "idempotency", ("org_id", "size")),
    ("ix_answer_links_question", "answer_links", ("question_id",)),
)


def upgrade() -> None:
    """Apply. Processes of the version before write rows of size 0 meanwhile."""
    for name, column in _SIZED.items():
        with op.batch_alter_table(name, schema=None) as batch_op:
            batch_op.add_column(sa.Column("size", sa.BigInteger(), nullable=False, server_default="0"))
        content: sa.ColumnClause[str] = sa.column(column)
        table = sa.table(name, content, sa.column("size"))
        op.execute(sa.update(table).values(size=sa.func.coalesce(byte_length(content), 0)))
    for name, of, columns in _INDEXES:
        create_index(name, of, columns)


def downgrade() -> None:
    """Undo."""
    for name, of, _ in reversed(_INDEXES):
        drop_index(name, of)
    for name in _SIZED:
        with op.batch_alter_table(name, schema=None) as batch_op:
            batch_op.drop_column("size")
