"""the tokens of the last minute are found by time: limits of the operator count them over all organisations."""

from __future__ import annotations

from runyard_common.database.migrations import growing

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    growing.create_index("ix_turns_at", "turns", ["at"])


def downgrade() -> None:
    """Undo."""
    growing.drop_index("ix_turns_at", "turns")
