"""A database of each kind, bare, behind an api, or with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from runyard_common.database import migrate
from runyard_common.database.engine import Database
from tests.api_server import Api
from tests.clockwork import Clockwork

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
MANIFEST = {
    "name": "@test/echo",
    "version": "1.2.0",
    "instructions": "Echo.",
    "input": {
        "schema": {
            "type": "object",
            "properties": {"n": {"type": "integer"}, "to": {"type": "string", "format": "email"}},
            "required": ["n"],
            "additionalProperties": False,
        }
    },
}


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind, with all tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runyard.db'}"
    migrated: Callable[[], str] = request.getfixturevalue("migrated_database")
    return migrated().replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="module", params=BOTH)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server on each database, without workers or a broker: what it accepts stays pending."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    home = tmp_path_factory.mktemp("api") / "home"
    with Api(home, url, max_body_bytes=200_000, max_upload_bytes=400_000) as server:
        with server.client() as client:
            for manifest in (MANIFEST, {"name": "@test/chat", "instructions": "Chat."}):
                made = client.post("/api/v1/agents/manifests", json=manifest)
                assert made.status_code == 201, made.text
        yield server


@pytest.fixture
def client(api: Api) -> Iterator[httpx2.Client]:
    """A client with the admin key."""
    with api.client() as client:
        yield client


@pytest.fixture(scope="module", params=BOTH)
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One migrated database of each kind."""
    url = f"sqlite:///{tmp_path_factory.mktemp('database') / 'runyard.db'}"
    if request.param == "postgres":
        fresh: Callable[[], str] = request.getfixturevalue("migrated_database")
        url = fresh().replace("postgresql://", "postgresql+psycopg://", 1)
    db = Database(url)
    migrate.upgrade(db)
    db.close()
    return url


@pytest.fixture
def clock(migrated: str) -> Iterator[Clockwork]:
    with Clockwork(migrated) as clock:
        clock.publish()
        yield clock
