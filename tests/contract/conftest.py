"""One live server for all contract suites of a test process."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.contract.live import Live


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
