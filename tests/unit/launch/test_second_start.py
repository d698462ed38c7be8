"""What a start loads, and that one whose tables are of this version migrates nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from runyard_common.database import migrate, schema_version
from runyard_common.database.engine import Database
from runyard_common.settings import Settings
from runyard_launch.supervisor.home import Home
from runyard_launch.supervisor.models import Choice
from runyard_launch.supervisor.parts import Plan

NO_MODEL = Choice("openai:none", serve_local=False, remark="")
AGENT_LIBRARIES = {"pydantic_ai", "openai", "anthropic", "mcp", "jsonschema", "jinja2", "xllamacpp"}
#: What must not be loaded once a process's modules are imported, on SQLite.
FORBIDDEN = {
    "runyard_launch.supervisor.up": AGENT_LIBRARIES
    | {"alembic", "sqlalchemy", "celery", "kombu", "redis", "psycopg", "httpx2"},
    "runyard_api.__main__": AGENT_LIBRARIES | {"alembic", "psycopg"},
    "runyard_scheduler.__main__": AGENT_LIBRARIES | {"alembic", "psycopg", "starlette", "uvicorn"},
    "runyard_workers.runtime": AGENT_LIBRARIES | {"alembic", "psycopg", "starlette", "uvicorn"},
}


def settings(home: Path) -> Settings:
    return Settings(home=home)


def migrated(home: Path) -> Settings:
    """Settings of a home whose tables are of this version."""
    given = settings(home)
    db = Database(given.database)
    migrate.upgrade(db)
    assert migrate.revisions(db) == (schema_version.newest(), schema_version.newest()), "as Alembic finds it"
    db.close()
    return given


def first_stage(given: Settings, home: Path) -> list[str]:
    return [spec.name for spec in Plan(given, Home(home), {}, NO_MODEL).stages()[0]]


def test_a_first_start_migrates_and_a_second_does_not(home: Path) -> None:
    assert "migrate" in first_stage(settings(home), home)
    assert not list(home.glob("*.db")), "looking makes no database"
    assert "migrate" not in first_stage(migrated(home), home)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE alembic_version SET version_num = '0001'",
        "UPDATE alembic_version SET version_num = '9999'",
        "INSERT INTO alembic_version VALUES ('0001')",
        "DELETE FROM alembic_version",
        "DROP TABLE alembic_version",
    ],
)
def test_a_start_migrates_whenever_the_version_is_not_certain(home: Path, change: str) -> None:
    given = migrated(home)
    with sqlite3.connect(home / "runyard.db") as connection:
        connection.execute(change)
    connection.close()
    assert "migrate" in first_stage(given, home)


def test_a_start_migrates_where_the_file_is_no_database(home: Path) -> None:
    (home / "runyard.db").write_text("no database at all, " * 100)
    assert "migrate" in first_stage(settings(home), home)


@pytest.mark.processes
@pytest.mark.parametrize("module", FORBIDDEN)
def test_a_process_loads_nothing_it_does_not_need_to_start(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert not FORBIDDEN[module] & set(loaded.split())
