"""One live server for all contract suites of a test process, and a server of its own for a module."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests import security
from tests.api_server import Api
from tests.contract.live import Live
from tests.members import key
from tests.security import World


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The server. Its start may take a while where little is free."""
    with Live(tmp_path_factory.mktemp("live")) as running:
        yield running
        running.store.db.close()


@pytest.fixture(scope="session")
def impatient(live: Live) -> str:
    """The name of an api process whose waiting fronts wait for half a second."""
    return live.add_api(RUNYARD_WAIT_SECONDS="0.5")


@pytest.fixture(scope="session")
def admin(live: Live) -> Iterator[httpx2.Client]:
    """A client with the admin key."""
    with live.client() as client:
        yield client


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server without workers, whose model is never asked: runs stay pending until they are cancelled."""
    home = tmp_path_factory.mktemp("api") / "home"
    with Api(
        home, model="openai:scripted", model_base_url="http://127.0.0.1:9/v1", wait_seconds=0.1
    ) as server:
        yield server


@pytest.fixture
def client(api: Api) -> Iterator[httpx2.Client]:
    """A client with a key of its own, so that no test meets another's rate limits."""
    with api.client(key(api, api.state.org_id)) as client:
        yield client


@pytest.fixture(scope="module")
def world(api: Api) -> World:
    """The operator's organisation, with one object of each kind."""
    return security.populate(api, api.state.org_id)
