"""The migrations make exactly the tables the code has, on both databases, and take them away again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from common.store import identity, migrate, sessions
from common.store.database import Database
from common.store.tables import metadata
from common.store.transaction import Store
from tests.waiting import wait_until


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind, without a table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runyard.db'}"
    fresh: Callable[[], str] = request.getfixturevalue("fresh_database")
    return fresh().replace("postgresql://", "postgresql+psycopg://", 1)


def test_up_makes_the_tables_of_the_code_and_down_removes_them(database_url: str) -> None:
    db = Database(database_url)
    migrate.upgrade(db)
    assert migrate.differences(db) == []
    assert set(inspect(db.engine).get_table_names()) >= set(metadata.tables)
    migrate.downgrade(db, "base")
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


def _command(monkeypatch: pytest.MonkeyPatch, home: Path, url: str, *arguments: str) -> int:
    monkeypatch.setenv("RUNYARD_HOME", str(home))
    monkeypatch.setenv("RUNYARD_DATABASE_URL", url)
    return migrate.main(list(arguments))


def _tables(db: Database) -> set[str]:
    return set(inspect(db.engine).get_table_names())


def test_down_without_a_revision_changes_nothing_and_names_the_one_before(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    db = Database(database_url)
    migrate.upgrade(db, "0006")
    assert _command(monkeypatch, home, database_url, "down") == 2
    assert "migrate down 0005" in capsys.readouterr().err
    assert "tasks" in _tables(db)
    db.close()


def test_down_to_base_needs_a_yes_once_the_installation_was_used(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    db = Database(database_url)
    migrate.upgrade(db)
    with Store(db).begin() as tx:
        org_id = identity.insert_organisation(tx, "default")
        sessions.ensure(tx, org_id, "a conversation")
    assert _command(monkeypatch, home, database_url, "down", "base") == 2
    assert "--yes" in capsys.readouterr().err
    assert "tasks" in _tables(db)
    assert _command(monkeypatch, home, database_url, "down", "base", "--yes") == 0
    assert "tasks" not in _tables(db)
    db.close()


def test_down_to_base_of_an_empty_installation_needs_no_yes(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(database_url)
    migrate.upgrade(db)
    assert _command(monkeypatch, home, database_url, "down", "base") == 0
    assert "tasks" not in _tables(db)
    db.close()


def test_down_to_an_unknown_revision_says_so(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    db = Database(database_url)
    migrate.upgrade(db)
    assert _command(monkeypatch, home, database_url, "down", "9999") == 2
    assert "9999" in capsys.readouterr().err
    db.close()


@pytest.mark.postgres
def test_an_index_on_a_growing_table_is_made_while_writers_go_on(fresh_database: Callable[[], str]) -> None:
    db = Database(fresh_database().replace("postgresql://", "postgresql+psycopg://", 1))
    migrate.upgrade(db, "0005")
    with db.engine.connect() as reader:  # an old transaction that a concurrent index has to wait for
        reader.execute(text("SELECT count(*) FROM turns WHERE org_id = :org"), {"org": "x"})
        making = threading.Thread(target=migrate.upgrade, args=(db, "0006"))
        making.start()
        wait_until(lambda: _waiting_for_index(db), seconds=20)
        with db.begin() as writer:
            writer.execute(text("SET LOCAL lock_timeout = 500"))
            writer.execute(text("LOCK TABLE turns IN ROW EXCLUSIVE MODE"))  # what every insert takes
        assert making.is_alive()
        reader.rollback()
    making.join(30)
    assert migrate.revisions(db)[0] == "0006"
    db.close()


def _waiting_for_index(db: Database) -> bool:
    with db.read() as conn:
        query = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' AND wait_event = 'virtualxid'"
        return conn.execute(text(query)).first() is not None


@pytest.mark.postgres
def test_a_migration_is_not_ended_by_the_limits_of_the_service(
    fresh_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(
        fresh_database().replace("postgresql://", "postgresql+psycopg://", 1),
        limits={"statement_timeout": 50},
    )
    migrate.upgrade(db)  # each of its statements may take longer than that
    seen: list[str] = []
    migrate._run(db, lambda conn: seen.append(conn.execute(text("SHOW statement_timeout")).scalar_one()))
    assert seen == ["0"]
    db.close()


@pytest.mark.postgres
def test_a_migration_that_finds_its_table_locked_is_tried_again(fresh_database: Callable[[], str]) -> None:
    db = Database(fresh_database().replace("postgresql://", "postgresql+psycopg://", 1))
    migrate.upgrade(db, "0004")
    with db.engine.connect() as holder:
        holder.execute(text("LOCK TABLE members IN ACCESS EXCLUSIVE MODE"))
        moving = threading.Thread(target=migrate.upgrade, args=(db,))
        moving.start()
        moving.join(7)  # longer than one attempt
        assert moving.is_alive()
        holder.rollback()
    moving.join(30)
    assert migrate.differences(db) == []
    db.close()
