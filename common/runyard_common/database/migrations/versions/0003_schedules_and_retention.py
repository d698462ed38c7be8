"""schedules wake, end and are pruned."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Apply. Nothing wrote schedules before, so the new columns need no values for old rows."""
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        batch_op.drop_index("ix_schedules_due")
        batch_op.add_column(sa.Column("wake_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("finished_at", sa.Double(), nullable=True))
        batch_op.create_index("ix_schedules_due", ["wake_at"], **_where("wake_at IS NOT NULL"))
        batch_op.create_index("ix_schedules_live", ["org_id"], **_where("finished_at IS NULL"))
        batch_op.create_index("ix_schedules_finished", ["finished_at"], **_where("finished_at IS NOT NULL"))
    with op.batch_alter_table("fires", schema=None) as batch_op:
        batch_op.create_index("ix_fires_open", ["schedule_id"], **_where("outcome = 'fired'"))
        batch_op.create_index("ix_fires_task", ["task_id"], **_where("task_id IS NOT NULL"))
        batch_op.create_index("ix_fires_idle", ["fired_at"], **_where("task_id IS NULL"))
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index("ix_tasks_finished")
        batch_op.create_index(
            "ix_tasks_finished", ["org_id", "status", "finished_at"], **_where("finished_at IS NOT NULL")
        )


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index("ix_tasks_finished")
        batch_op.create_index("ix_tasks_finished", ["finished_at"], **_where("finished_at IS NOT NULL"))
    with op.batch_alter_table("fires", schema=None) as batch_op:
        for name in ("ix_fires_idle", "ix_fires_task", "ix_fires_open"):
            batch_op.drop_index(name)
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        for name in ("ix_schedules_finished", "ix_schedules_live", "ix_schedules_due"):
            batch_op.drop_index(name)
        batch_op.drop_column("finished_at")
        batch_op.drop_column("wake_at")
        batch_op.create_index(
            "ix_schedules_due", ["next_due_at"], **_where("enabled AND next_due_at IS NOT NULL")
        )
