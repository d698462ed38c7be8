"""credentials in manifests and metadata of datastores are sealed, registered tools are known to the api."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from runyard_common.agents.rules import manifests
from runyard_common.credentials.rules import documents
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.columns import Json
from runyard_common.values.errors import ConfigurationError

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_AGENTS = sa.table("agents", sa.column("id"), sa.column("shared"))
_VERSIONS = sa.table(
    "agent_versions", sa.column("id"), sa.column("agent_id"), sa.column("status"), sa.column("shared"),
    sa.column("manifest", Json), sa.column("digest"), sa.column("secrets", sa.LargeBinary),
)  # fmt: skip
_DATASTORES = sa.table(
    "datastores", sa.column("id"), sa.column("meta", Json), sa.column("secrets", sa.LargeBinary)
)
#: Rows read at once: a manifest may have megabytes.
_BATCH = 100


def upgrade() -> None:
    """Apply. Processes of the version before write rows without these columns meanwhile."""
    with op.batch_alter_table("agent_versions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("secrets", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("shared", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("datastores", schema=None) as batch_op:
        batch_op.add_column(sa.Column("secrets", sa.LargeBinary(), nullable=True))
    op.create_table(
        "registered_tools",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("effect", sa.String(16), nullable=False),
        sa.Column("review", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    shared = sa.select(_AGENTS.c.id).where(_AGENTS.c.shared.is_(sa.true()))
    op.execute(
        sa.update(_VERSIONS)
        .where(_VERSIONS.c.agent_id.in_(shared), _VERSIONS.c.status != "draft")
        .values(shared=sa.true())
    )
    _seal()


def downgrade() -> None:
    """Undo."""
    _open()
    op.drop_table("registered_tools")
    with op.batch_alter_table("datastores", schema=None) as batch_op:
        batch_op.drop_column("secrets")
    with op.batch_alter_table("agent_versions", schema=None) as batch_op:
        batch_op.drop_column("shared")
        batch_op.drop_column("secrets")


def _sealer() -> Callable[[], Sealer]:
    """The installation's sealer, asked for at the first row that needs it."""
    made: list[Sealer] = []

    def sealer() -> Sealer:
        if not made:
            config = op.get_context().config
            key = config.attributes.get("secret_key") if config is not None else None
            if key is None:
                raise ConfigurationError(
                    "Stored manifests hold credentials, and there is no RUNYARD_SECRET_KEY to seal them with.",
                    field="RUNYARD_SECRET_KEY",
                )
            made.append(Sealer(key()))
        return made[0]

    return sealer


def _rows(table: Any, where: Any) -> Iterator[Any]:
    last = ""
    while True:
        query = sa.select(table).where(table.c.id > last, where).order_by(table.c.id).limit(_BATCH)
        rows = op.get_bind().execute(query).all()
        yield from rows
        if len(rows) < _BATCH:
            return
        last = rows[-1].id


def _write(table: Any, row: Any, **values: Any) -> None:
    op.get_bind().execute(sa.update(table).where(table.c.id == row.id).values(**values))


def _seal() -> None:
    sealer = _sealer()
    for row in _rows(_VERSIONS, _VERSIONS.c.manifest.is_not(None)):
        shown, found = documents.split(row.manifest)
        if found:
            sealed = sealer().seal(found)
            _write(_VERSIONS, row, manifest=shown, secrets=sealed, digest=manifests.digest(shown))
    for row in _rows(_DATASTORES, _DATASTORES.c.meta.is_not(None)):
        if row.meta:
            names = dict.fromkeys(row.meta, documents.SEALED)
            _write(_DATASTORES, row, meta=names, secrets=sealer().seal(row.meta))


def _open() -> None:
    sealer = _sealer()
    for row in _rows(_VERSIONS, _VERSIONS.c.secrets.is_not(None)):
        whole = documents.put_back(row.manifest, sealer().open(row.secrets))
        _write(_VERSIONS, row, manifest=whole, digest=manifests.digest(whole))
    for row in _rows(_DATASTORES, _DATASTORES.c.secrets.is_not(None)):
        _write(_DATASTORES, row, meta=sealer().open(row.secrets))
