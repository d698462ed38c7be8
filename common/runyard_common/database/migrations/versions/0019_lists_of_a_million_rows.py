"""lists read what they show: tasks by status and end user, sessions, each in the order of their ids."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from runyard_common.database.migrations.growing import create_index, drop_index

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Apply. Two indexes that are parts of new ones go."""
    create_index("ix_tasks_active", "tasks", ["org_id", "status", "id"], **_where("finished_at IS NULL"))
    create_index("ix_tasks_ended", "tasks", ["org_id", "status", "id"], **_where("finished_at IS NOT NULL"))
    create_index("ix_tasks_end_user", "tasks", ["end_user_id", "id"], **_where("end_user_id IS NOT NULL"))
    create_index("ix_sessions_list", "sessions", ["org_id", "id"])
    drop_index("ix_tasks_active_org", "tasks")
    drop_index("ix_tasks_dead", "tasks")


def downgrade() -> None:
    """Undo."""
    create_index("ix_tasks_dead", "tasks", ["org_id", "id"], **_where("status = 'failed'"))
    create_index("ix_tasks_active_org", "tasks", ["org_id", "status"], **_where("finished_at IS NULL"))
    drop_index("ix_sessions_list", "sessions")
    for name in ("ix_tasks_end_user", "ix_tasks_ended", "ix_tasks_active"):
        drop_index(name, "tasks")
