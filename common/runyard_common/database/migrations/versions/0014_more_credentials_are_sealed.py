"""credentials that are known by their form, in URLs and lines of headers, are sealed in manifests that are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from runyard_common.agents.rules import manifests
from runyard_common.credentials.rules import documents
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.columns import Json
from runyard_common.database.pages import byte_length
from runyard_common.values.errors import ConfigurationError

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_VERSIONS = sa.table(
    "agent_versions", sa.column("id"), sa.column("manifest", Json), sa.column("digest"),
    sa.column("secrets", sa.LargeBinary), sa.column("size"),
)  # fmt: skip
#: Rows read at once: a manifest may have megabytes.
_BATCH = 100


def upgrade() -> None:
    """Apply. What processes of the version before write meanwhile is sealed when it is published again."""
    made: list[Sealer] = []
    for row in _rows():
        if not isinstance(row.manifest, dict) or documents.split(row.manifest)[0] == row.manifest:
            continue
        if not made:
            made.append(Sealer(_key()))
        before = made[0].open(row.secrets) if row.secrets is not None else {}
        shown, found = documents.split(documents.put_back(row.manifest, before))
        values = {"manifest": shown, "secrets": made[0].seal(found), "digest": manifests.digest(shown)}
        this = sa.update(_VERSIONS).where(_VERSIONS.c.id == row.id)
        op.get_bind().execute(this.values(**values))
        op.get_bind().execute(this.values(size=sa.func.coalesce(byte_length(_VERSIONS.c.manifest), 0)))


def downgrade() -> None:
    """Undo: nothing. The version before reads what is sealed as it reads its own."""


def _key() -> str:
    config = op.get_context().config
    key = config.attributes.get("secret_key") if config is not None else None
    if key is None:
        raise ConfigurationError(
            "Stored manifests hold credentials, and there is no RUNYARD_SECRET_KEY to seal them with.",
            field="RUNYARD_SECRET_KEY",
        )
    return str(key())


def _rows() -> Iterator[Any]:
    last = ""
    while True:
        query = (
            sa.select(_VERSIONS)
            .where(_VERSIONS.c.id > last, _VERSIONS.c.manifest.is_not(None))
            .order_by(_VERSIONS.c.id)
            .limit(_BATCH)
        )
        rows = op.get_bind().execute(query).all()
        yield from rows
        if len(rows) < _BATCH:
            return
        last = rows[-1].id
