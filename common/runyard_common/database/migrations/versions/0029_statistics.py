"""what runs did is summed by spans of time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runyard_common.database.columns import Json

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_COUNTS = (
    "submitted", "completed", "failed", "stopped",
    "turns", "input_tokens", "output_tokens", "cached_tokens", "cost_micros",
)  # fmt: skip


def _span() -> list[sa.Column[object]]:
    return [
        sa.Column("org_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("step", sa.Integer(), primary_key=True),
        sa.Column("at", sa.BigInteger(), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
    ]


def upgrade() -> None:
    """Apply. Schedulers count the runs that there are after their start, the oldest first."""
    counts = [sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS]
    op.create_table("statistics", *_span(), *counts, sa.Column("distributions", Json(), nullable=True))
    op.create_index("ix_statistics_at", "statistics", ["step", "at"])
    totals = [sa.Column(name, sa.BigInteger(), nullable=False) for name in ("total", "peak")]
    op.create_table("queue_samples", *_span(), *totals)
    op.create_index("ix_queue_samples_at", "queue_samples", ["step", "at"])
    positions = [
        sa.Column(name, sa.BigInteger(), nullable=False)
        for name in ("revision", "counted", "settled", "sampled")
    ]
    op.create_table(
        "statistics_progress",
        sa.Column("id", sa.String(64), primary_key=True),
        *positions,
        sa.Column("at", sa.Double(), nullable=False),
    )


def downgrade() -> None:
    """Undo: the sums are lost, and with them those of runs that were deleted."""
    op.drop_table("statistics_progress")
    op.drop_table("queue_samples")
    op.drop_table("statistics")
