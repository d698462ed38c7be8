"""Indexes on tables that grow (tasks, events, turns, …): made and dropped while the installation works.

On PostgreSQL a plain CREATE INDEX blocks every writer of its table until it is done. Migrations use these two
for any table that holds more than a few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import op
from sqlalchemy import text
from sqlalchemy.sql.elements import ColumnElement

_INVALID = text(
    "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = :name AND NOT i.indisvalid"
)


def create_index(name: str, table: str, columns: Sequence[str | ColumnElement[Any]], **options: Any) -> None:
    """Create an index; on PostgreSQL without blocking writers, outside of the migration's transaction.

    A migration that was interrupted may be run again: what is left of an unfinished index is dropped first.
    """
    if op.get_bind().dialect.name != "postgresql":
        op.create_index(name, table, list(columns), **options)
        return
    with _outside_transaction():
        if op.get_bind().execute(_INVALID, {"name": name}).first():
            op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)
        op.create_index(
            name, table, list(columns), postgresql_concurrently=True, if_not_exists=True, **options
        )


def drop_index(name: str, table: str) -> None:
    """Drop an index; on PostgreSQL without blocking writers."""
    if op.get_bind().dialect.name != "postgresql":
        op.drop_index(name, table_name=table)
        return
    with _outside_transaction():
        op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)


@contextmanager
def _outside_transaction() -> Iterator[None]:
    """Autocommit, without a limit on waiting: it waits for old transactions and blocks no writer meanwhile."""
    with op.get_context().autocommit_block():
        bind = op.get_bind()
        limited = bind.execute(text("SHOW lock_timeout")).scalar_one() != "0"
        if limited:
            bind.execute(text("SET lock_timeout = 0"))
        try:
            yield
        finally:
            if limited:
                bind.execute(text("RESET lock_timeout"))
