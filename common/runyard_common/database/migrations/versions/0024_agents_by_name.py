"""agents are found by their name alone: SQLite looked through every agent that all organisations share."""

from __future__ import annotations

from runyard_common.database.migrations.growing import create_index, drop_index

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_index("ix_agents_name", "agents", ["name"])


def downgrade() -> None:
    """Undo."""
    drop_index("ix_agents_name", "agents")
