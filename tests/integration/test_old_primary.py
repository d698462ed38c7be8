"""A server that has become read-only, as the old primary of a failover does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store

pytestmark = pytest.mark.postgres
ADD = text("INSERT INTO config_versions (scope, number) VALUES (:scope, 1)")


def test_a_connection_to_a_server_that_became_read_only_is_dropped_at_its_first_refusal(
    migrated_database: Callable[[], str],
) -> None:
    db = Database(migrated_database().replace("postgresql://", "postgresql+psycopg://", 1))
    store = Store(db)
    with store.begin() as tx:
        first = tx.conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        tx.conn.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    with pytest.raises(DBAPIError) as refused, store.begin() as tx:
        tx.conn.execute(ADD, {"scope": "old"})
    assert refused.value.orig is not None
    assert getattr(refused.value.orig, "sqlstate", None) == "25006"
    with store.begin() as tx:  # another connection, which leads to the primary by then
        tx.conn.execute(ADD, {"scope": "new"})
        assert tx.conn.execute(text("SELECT pg_backend_pid()")).scalar_one() != first
    db.close()
