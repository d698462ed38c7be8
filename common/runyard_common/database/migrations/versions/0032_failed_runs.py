"""failed runs are found by the code of their error, and know the run that repeats them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from runyard_common.database.migrations.growing import create_index, drop_index

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

#: The code is written first in an error; on PostgreSQL a long one, or one with escapes, is left out.
_CODES = {
    "postgresql": """substring(error from '"code":"([^"\\\\]{1,100})"')""",
    "sqlite": "substr(json_extract(error, '$.code'), 1, 100)",
}


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Apply. Runs that end under an older release's processes beside this one have no code."""
    op.add_column("tasks", sa.Column("error_code", sa.String(100), nullable=True))
    tasks = sa.table("tasks", *map(sa.column, ("status", "finished_at", "error", "error_code")))
    failed = (tasks.c.finished_at.is_not(None), tasks.c.status.in_(["failed", "stopped"]))
    code: sa.ColumnElement[str] = sa.literal_column(_CODES[op.get_bind().dialect.name])
    op.get_bind().execute(tasks.update().where(*failed, tasks.c.error.is_not(None)).values(error_code=code))
    create_index(
        "ix_tasks_error_code", "tasks", ["org_id", "error_code", "id"], **_where("error_code IS NOT NULL")
    )
    create_index("ix_tasks_retry_of", "tasks", ["retry_of", "id"], **_where("retry_of IS NOT NULL"))


def downgrade() -> None:
    """Undo."""
    drop_index("ix_tasks_retry_of", "tasks")
    drop_index("ix_tasks_error_code", "tasks")
    op.drop_column("tasks", "error_code")
