"""a long history: tasks by who made them, deliveries by type, and dead versions of tasks that are cleared in time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from runyard_common.database.migrations.growing import create_index, drop_index

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# Each run leaves two dead versions, with entries in the partial indexes of what is pending or unfinished, which every
# claim and every look of the schedulers passes over. By PostgreSQL's defaults they are cleared once they are a fifth
# of the table: of a million tasks after a hundred thousand runs.
_VACUUM = {"autovacuum_vacuum_scale_factor": "0.03", "autovacuum_vacuum_threshold": "20000"}


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Apply."""
    create_index("ix_tasks_created_by", "tasks", ["created_by", "id"], **_where("created_by IS NOT NULL"))
    create_index("ix_deliveries_type", "deliveries", ["org_id", "event_type", "created_at"])
    if op.get_bind().dialect.name == "postgresql":
        settings = ", ".join(f"{name} = {value}" for name, value in _VACUUM.items())
        op.execute(f"ALTER TABLE tasks SET ({settings})")


def downgrade() -> None:
    """Undo."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE tasks RESET ({', '.join(_VACUUM)})")
    drop_index("ix_deliveries_type", "deliveries")
    drop_index("ix_tasks_created_by", "tasks")
