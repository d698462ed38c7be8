"""What a start loads, and that one whose tables are of this version migrates nothing."""

from __future__ import annotations

import os
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
#: What needs a database of another kind, or a library that only some requests or settings need.
ON_DEMAND = {
    "alembic", "cryptography.fernet", "nodesemver", "psycopg", "pydantic_settings", "sqlalchemy.dialects.postgresql",
    "jwt", "segno", "standardwebhooks",
}  # fmt: skip
#: What must not be loaded once a process has all it needs to begin, on SQLite.
FORBIDDEN = {
    "runyard_api": AGENT_LIBRARIES
    | ON_DEMAND
    | {
        "celery",
        "httpcore2",
        "httpx2",
        "kombu",
        "opentelemetry.metrics._internal",
        "rich.console",
        "watchfiles.main",
    },
    "runyard_scheduler": AGENT_LIBRARIES
    | ON_DEMAND
    | {
        "celery",
        "httpx2",
        "kombu",
        "opentelemetry.metrics._internal",
        "rich.console",
        "starlette",
        "uvicorn",
    },
    "runyard_workers": (
        AGENT_LIBRARIES | ON_DEMAND | {"click_repl", "prompt_toolkit", "starlette", "uvicorn"}
    )
    - {"nodesemver"},
    "runyard_launch.supervisor.up": AGENT_LIBRARIES
    | ON_DEMAND
    | {"celery", "httpx2", "kombu", "redis", "sqlalchemy", "structlog"},
}
#: Modules that each may load for that, libraries' and its own: a twentieth more than it does.
MOST_MODULES = {
    "runyard_api": 1_100,  # metrics of each process, traces and their wake-ups since
    "runyard_scheduler": 755,  # statistics since
    "runyard_workers": 1_250,  # waits, processes, state, compensation and secrets of agents since
    "runyard_launch.supervisor.up": 355,
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


def loaded(module: str, home: Path) -> set[str]:
    """The modules that a process loads: each loads all it needs to begin, and shows its options then."""
    program = ["-c", f"import {module}"] if module.endswith("up") else ["-m", module, "--help"]
    shown = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", *program],
        env=os.environ | {"RUNYARD_HOME": str(home), "RUNYARD_BROKER_URL": "redis://127.0.0.1:1"},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines() if "|" in line}


@pytest.mark.processes
@pytest.mark.parametrize("module", FORBIDDEN)
def test_a_process_loads_nothing_it_does_not_need_to_start(module: str, home: Path) -> None:
    found = loaded(module, home)
    assert FORBIDDEN[module] & found == set()
    assert len(found) <= MOST_MODULES[module]


@pytest.mark.processes
def test_an_api_builds_the_models_of_its_requests_when_it_needs_them() -> None:
    code = """
import runyard_api.__main__
from runyard_common.values.models import Model

def below(kind):
    return {kind}.union(*map(below, kind.__subclasses__()))

models = below(Model)
print(len(models), sum(model.__pydantic_complete__ for model in models))
"""
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    models, built = map(int, shown.stdout.split())
    assert models > 200
    assert built <= 5
