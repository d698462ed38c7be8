"""The migrations make exactly the tables the code has, on both databases, and take them away again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import inspect

from common.store import migrate
from common.store.database import Database
from common.store.tables import metadata


def test_up_makes_the_tables_of_the_code_and_down_removes_them(database_url: str) -> None:
    db = Database(database_url)
    migrate.upgrade(db)
    assert migrate.differences(db) == []
    assert set(inspect(db.engine).get_table_names()) >= set(metadata.tables)
    migrate.downgrade(db)
    assert set(inspect(db.engine).get_table_names()) <= {"alembic_version"}
    migrate.upgrade(db)
    assert migrate.differences(db) == []
    db.close()


def test_several_processes_may_migrate_at_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate.upgrade, databases))
    assert migrate.differences(databases[0]) == []
    for db in databases:
        db.close()
