"""Alembic's entry point: runs the migrations on the connection that `runyard_common.database.migrate` opened."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from runyard_common.database.columns import Json
from runyard_common.tables import metadata


def _plain(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Migrations outlive our column classes: write what the database sees."""
    return "sa.Text()" if kind == "type" and isinstance(item, Json) else False


def _is_ours(name: str | None, _kind: str, _parent: Any) -> bool:
    """Full-text search keeps tables and an index of its own, which no table class describes."""
    return not (name or "").startswith(("passages_fts", "ix_passages_search"))


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=connection.dialect.name == "postgresql",
    compare_type=True,
    render_item=_plain,
    include_name=_is_ours,
)
with context.begin_transaction():
    context.run_migrations()
