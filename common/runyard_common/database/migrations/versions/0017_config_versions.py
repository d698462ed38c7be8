"""each organisation has a number that every change of its configuration raises."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runyard_common.database.migrations import config_triggers
from runyard_common.database.migrations.config_triggers import AGENT, ITSELF, OF_AGENT, ORGANISATION, Watched

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

WATCHED = (
    Watched("agents", AGENT),
    Watched("agent_versions", OF_AGENT),
    Watched("agent_tags", OF_AGENT),
    Watched("limits", ORGANISATION),
    # What is sent where depends neither on how a receiver fares nor on its secret.
    Watched(
        "endpoints",
        ORGANISATION,
        ("id", "org_id", "application_id", "style", "url", "events", "agent_id", "payload_mode", "active"),
    ),
    Watched(
        "organisations", ITSELF, ("id", "name", "weight", "active", "settings")
    ),  # not what is left of its money
    Watched("members", ORGANISATION),
    Watched(
        "api_keys",
        ORGANISATION,
        (
            "id",
            "org_id",
            "key_hash",
            "role",
            "scopes",
            "person_id",
            "application_id",
            "expires_at",
            "revoked_at",
        ),
    ),
)


def upgrade() -> None:
    """Apply. Processes of the version before raise the numbers as well: triggers do."""
    op.create_table(
        "config_versions",
        sa.Column("scope", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
    )
    config_triggers.create(op.get_bind(), WATCHED)


def downgrade() -> None:
    """Undo."""
    config_triggers.drop(op.get_bind(), WATCHED)
    op.drop_table("config_versions")
