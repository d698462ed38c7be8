"""The migrations make exactly the tables the code has, on both databases, and take them away again."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.sessions.queries import sessions
from runyard_common.tables import metadata
from runyard_common.values.errors import ConfigurationError
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


def test_partial_indexes_hold_the_rows_that_their_declarations_name(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'runyard.db'}")
    migrate.upgrade(db)
    with db.engine.connect() as connection:
        found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'index'")).all()
    made = {name: sql.partition(" WHERE ")[2] for name, sql in found if sql}
    declared = {
        index.name: index.info.get("where", "")
        for table in metadata.tables.values()
        for index in table.indexes
    }
    assert {name: made[str(name)] for name in declared} == declared
    db.close()


def test_several_processes_may_migrate_at_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate.upgrade, databases))
    assert migrate.differences(databases[0]) == []
    for db in databases:
        db.close()


def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "runyard.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # as it is while another turns the write-ahead log on
    db = Database(f"sqlite:///{file}")
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(migrate.upgrade, db)
        with pytest.raises(TimeoutError):
            made.result(0.3)
        other.execute("COMMIT")
        made.result(30)
    assert migrate.differences(db) == []
    db.close()
    other.close()


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


def test_down_to_an_unknown_revision_is_refused(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    db = Database(database_url)
    migrate.upgrade(db)
    assert _command(monkeypatch, home, database_url, "down", "9999") == 2
    assert "9999" in capsys.readouterr().err
    db.close()


@pytest.mark.parametrize("words", [["--json"], ["down", "--json"], ["down", "0001", "--json"], ["up", "-v"]])
def test_an_option_that_there_is_not_is_refused_before_anything_is_opened(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert _command(monkeypatch, home, f"sqlite:///{home}/none.db", *words) == 2
    assert f"no such option: {words[-1]}. Usage: " in capsys.readouterr().err
    assert not (home / "none.db").exists()


@pytest.mark.postgres
def test_an_index_on_a_growing_table_is_made_while_writers_go_on(fresh_database: Callable[[], str]) -> None:
    db = Database(fresh_database().replace("postgresql://", "postgresql+psycopg://", 1))
    migrate.upgrade(db, "0005")
    with db.engine.connect() as reader:  # an old transaction that a concurrent index has to wait for
        reader.execute(text("SELECT count(*) FROM turns WHERE org_id = :org"), {"org": "x"})
        making = threading.Thread(target=migrate.upgrade, args=(db, "0006"))
        making.start()
        wait_until(lambda: _waiting_for_index(db))
        with db.begin() as writer:
            writer.execute(text("SET LOCAL lock_timeout = 500"))
            writer.execute(text("LOCK TABLE turns IN ROW EXCLUSIVE MODE"))  # what every insert takes
        assert making.is_alive()
        reader.rollback()
    making.join(30)
    assert migrate.revisions(db)[0] == "0006"
    db.close()


@pytest.mark.postgres
def test_one_that_waits_for_another_has_no_transaction_that_an_index_would_wait_for(
    fresh_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(fresh_database().replace("postgresql://", "postgresql+psycopg://", 1))
    monkeypatch.setattr(migrate, "_LOCK_PAUSE", 0.1)
    idle: set[object] = set()
    query = text(
        "SELECT state_change FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' "
        "AND pid NOT IN (pg_backend_pid(), :other)"
    )

    def came_to_an_end_again_and_again() -> bool:
        with db.read() as conn:
            idle.update(conn.execute(query, {"other": holder}).scalars())
        return len(idle) > 5

    with db.begin() as other:
        other.execute(text(f"SELECT pg_advisory_xact_lock({migrate._LOCK})"))
        holder = other.execute(text("SELECT pg_backend_pid()")).scalar_one()
        waiting = threading.Thread(target=migrate.upgrade, args=(db, "0001"))
        waiting.start()
        wait_until(came_to_an_end_again_and_again)
    waiting.join(50)
    assert migrate.revisions(db)[0] == "0001"
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


_WITH_TOKEN = (
    '{"name": "@a/b", "mcp_servers": [{"name": "m", "url": "https://m", "auth": {"token": "PLAIN"}}]}'
)


def _before_0008(db: Database) -> None:
    """An agent that the operator shares, with a manifest and a datastore as version 0007 stored them."""
    _stored_at(db, "0007", _WITH_TOKEN)


def _stored_at(db: Database, revision: str, manifest: str) -> None:
    migrate.upgrade(db, revision)
    with db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO agents (id, org_id, name, slug, kind, description, functional, is_active, shared, "
                "version_id, created_at, updated_at) VALUES ('a', 'o', '@a/b', 'b', 'declared', '', true, true, true, "
                "'v1', 0, 0)"
            )
        )
        for version, status in (("v1", "published"), ("v2", "draft")):
            conn.execute(
                text(
                    "INSERT INTO agent_versions (id, org_id, agent_id, number, version, status, yanked, manifest, "
                    "digest, created_at, updated_at) VALUES (:v, 'o', 'a', 1, :v, :status, false, :manifest, 'd', 0, 0)"
                ),
                {"v": version, "status": status, "manifest": manifest},
            )
        conn.execute(
            text(
                "INSERT INTO datastores (id, org_id, name, type, meta, created_at) "
                "VALUES ('d', 'o', 'n', 'database', :meta, 0)"
            ),
            {"meta": '{"odd": "PLAIN"}'},
        )


def _plain(db: Database) -> list[str]:
    with db.read() as conn:
        found = [*conn.execute(text("SELECT manifest FROM agent_versions")).scalars()]
        found += conn.execute(text("SELECT meta FROM datastores")).scalars()
    return [row for row in found if "PLAIN" in row]


def test_credentials_that_are_there_are_sealed_and_opened_again_on_the_way_down(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(database_url)
    _before_0008(db)
    assert _command(monkeypatch, home, database_url, "up") == 0
    assert _plain(db) == []
    sealer = Sealer((home / "secret.key").read_text().strip())
    with db.read() as conn:
        versions = {row.id: row for row in conn.execute(text("SELECT * FROM agent_versions"))}
        meta = conn.execute(text("SELECT secrets FROM datastores")).scalar_one()
    assert sealer.open(versions["v1"].secrets) == {"/mcp_servers/0/auth/token": "PLAIN"}
    assert sealer.open(meta) == {"odd": "PLAIN"}
    assert [bool(versions[v].shared) for v in ("v1", "v2")] == [True, False]  # a draft is not the operator's
    assert _command(monkeypatch, home, database_url, "down", "0007") == 0
    assert len(_plain(db)) == 3
    db.close()


def test_credentials_that_0014_knows_by_their_form_are_sealed_with_those_that_were(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, sealer = Database(database_url), Sealer("a key of the installation")
    url = "https://x.blob.example/a?sv=2022&sig=PLAIN"
    _stored_at(db, "0013", json.dumps({"name": "@a/b", "config": {"file": url, "password": "********"}}))
    with db.begin() as conn:
        before = sealer.seal({"/config/password": "hunter2"})
        conn.execute(text("UPDATE agent_versions SET secrets = :s"), {"s": before})
    monkeypatch.setenv("RUNYARD_SECRET_KEY", "a key of the installation")
    assert _command(monkeypatch, home, database_url, "up") == 0
    with db.read() as conn:
        row = conn.execute(text("SELECT * FROM agent_versions WHERE id = 'v1'")).one()
    assert (row.size, "PLAIN" in row.manifest) == (len(row.manifest), False)
    assert sealer.open(row.secrets) == {"/config/file": url, "/config/password": "hunter2"}
    db.close()


def test_credentials_that_are_there_are_not_left_plain_for_want_of_a_key(database_url: str) -> None:
    db = Database(database_url)
    _before_0008(db)
    with pytest.raises(ConfigurationError, match="RUNYARD_SECRET_KEY"):
        migrate.upgrade(db)
    assert migrate.revisions(db)[0] == "0007"
    db.close()


#: Accounts as version 0008 stored them: who wrote what about them in the audit log, and where they belong.
_ACCOUNTS = {
    "own": ([("o", "user:own", "member.join")], ["o"]),
    "made": ([("t", "user:boss", "member.add")], ["t"]),
    "reset": ([("o", "user:reset", "member.join"), ("o", "operator", "member.set_password")], ["o"]),
    "unknown": ([], ["o"]),
    "carried": ([("t", "user:boss", "member.add"), ("o", "user:carried", "member.join")], ["t", "o"]),
}


def _accounts_of_0008(db: Database) -> None:
    migrate.upgrade(db, "0008")
    with db.begin() as conn:
        for name, (noted, places) in _ACCOUNTS.items():
            conn.execute(
                text(
                    "INSERT INTO users (id, email, name, password_hash, created_at) VALUES (:n, :n, :n, 'h', 0)"
                ),
                {"n": name},
            )
            conn.execute(
                text(
                    "INSERT INTO logins (token_hash, user_id, csrf, created_at, expires_at) VALUES (:n, :n, '', 0, 9)"
                ),
                {"n": name},
            )
            for org in places:
                insert = "INSERT INTO members (org_id, user_id, role, created_at) VALUES (:o, :n, 'admin', 0)"
                conn.execute(text(insert), {"o": org, "n": name})
            for n, (org, actor, action) in enumerate(noted):
                insert = "INSERT INTO audit (id, org_id, actor, action, object_id, at) VALUES (:i, :o, :a, :x, :n, 0)"
                values = {"i": f"{name}{n}", "o": org, "a": actor, "x": action, "n": name}
                conn.execute(text(insert), values)


def test_passwords_that_others_chose_before_0009_must_be_changed_or_are_void(database_url: str) -> None:
    db = Database(database_url)
    _accounts_of_0008(db)
    migrate.upgrade(db)
    with db.read() as conn:
        query = text("SELECT id, password_hash, must_change_password FROM users")
        found = {row.id: (row.password_hash, bool(row.must_change_password)) for row in conn.execute(query)}
        signed_in = set(conn.execute(text("SELECT user_id FROM logins")).scalars())
    assert found == {
        "own": ("h", False),
        "made": ("h", True),
        "reset": ("h", True),
        "unknown": ("h", True),
        "carried": (None, True),  # its maker, of another organisation, may know it
    }
    assert signed_in == {"own"}
    migrate.downgrade(db, "0008")
    db.close()
