"""Every route that asks who calls counts against the organisation's rate; what needs no key against that of the address
it comes from, but for health."""

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
    if answer.status_code != 429:
        answer = used_up.request(operation.method, path)  # a minute began meanwhile, and one more passed
    assert answer.status_code == 429, answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 120


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/health", "/metrics", "/docs", "/openapi.json", "/console"]
)
def test_what_needs_no_key_is_not_counted(used_up: httpx2.Client, path: str) -> None:
    for _ in range(3):
        assert used_up.get(path).status_code in (200, 503)


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An api behind a proxy on this machine."""
    home = tmp_path_factory.mktemp("open") / "home"
    with Api(home, open_requests_per_minute=2, trusted_proxies="127.0.0.1") as one:
        yield one


def _unguarded() -> list[tuple[str, str]]:
    pages = [
        ("GET", page) for page in ("/", "/docs", "/docs/", "/openapi.json", "/openapi/nara.json", "/console/")
    ]
    return pages + [(each.method, each.paths[0]) for each in operations() if each.counted_by_address]


@pytest.mark.parametrize(("method", "path"), _unguarded())
def test_what_needs_no_key_is_counted_by_the_address_it_comes_from(
    open_: Api, method: str, path: str
) -> None:
    here, elsewhere = (f"2001:db8:{_unguarded().index((method, path)):x}:{site}::1" for site in (1, 2))
    path = re.sub(r"\{\w+(?::\w+)?\}", "00000000-0000-7000-8000-000000000000", path)

    def ask(address: str) -> httpx2.Response:
        return stranger.request(method, path, headers={"x-forwarded-for": address})

    with open_.client("") as stranger:
        assert 429 not in [ask(here).status_code for _ in range(2)]
        neighbour = here.removesuffix("1") + "2"  # in the same network
        refused = ask(neighbour)
        if refused.status_code != 429:
            refused = ask(neighbour)  # a minute began meanwhile, and one more passed
        assert (refused.status_code, ask(elsewhere).status_code == 429) == (429, False)
    assert 1 <= int(refused.headers["retry-after"]) <= 120


def test_health_is_not_counted_and_an_address_that_no_proxy_vouches_for_is_not_believed(api: Api) -> None:
    with api.client("") as stranger:
        for _ in range(3):
            for path in ("/healthz", "/readyz", "/health"):
                assert stranger.get(path).status_code in (200, 503)
        api.state.open_rates._most = 3
        statuses = [
            stranger.get("/openapi.json", headers={"x-forwarded-for": f"203.0.113.{number}"}).status_code
            for number in range(5)
        ]
    assert statuses[-1] == 429


def test_the_operators_own_organisation_is_not_limited(api: Api) -> None:
    with api.client() as operator:
        for _ in range(5):
            operator.get("/api/v1/me").raise_for_status()
