"""Every route that asks who calls counts against the organisation's rate; health and what needs no key does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from runyard_api.fronts import operations
from runyard_api.http.operations import Operation
from tests.api_server import Api
from tests.members import key, organisation


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Api(tmp_path_factory.mktemp("rate") / "home", requests_per_minute=1) as one:
        yield one


@pytest.fixture(scope="module")
def used_up(api: Api) -> Iterator[httpx2.Client]:
    """A client whose organisation has asked as often as it may."""
    with api.client(key(api, organisation(api))) as client:
        client.get("/api/v1/me").raise_for_status()
        yield client


def _guarded() -> list[Operation]:
    return [each for each in operations() if each.permission is not None]


@pytest.mark.parametrize("operation", _guarded(), ids=lambda each: f"{each.method} {each.paths[0]}")
def test_every_surface_refuses_what_goes_over_the_rate_and_returns_when_to_come_back(
    used_up: httpx2.Client, operation: Operation
) -> None:
    path = re.sub(r"\{\w+(?::\w+)?\}", "00000000-0000-7000-8000-000000000000", operation.paths[0])
    answer = used_up.request(operation.method, path)
    assert answer.status_code == 429, answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 120


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/health", "/metrics", "/docs", "/openapi.json", "/console"]
)
def test_what_needs_no_key_is_not_counted(used_up: httpx2.Client, path: str) -> None:
    for _ in range(3):
        assert used_up.get(path).status_code in (200, 503)


def test_the_operators_own_organisation_is_not_limited(api: Api) -> None:
    with api.client() as operator:
        for _ in range(5):
            operator.get("/api/v1/me").raise_for_status()
