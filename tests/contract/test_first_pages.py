"""What a browser or a curious caller meets first: the root, pages with a slash, compression, the API's pages."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import httpx2
import pytest

from tests.contract.live import Live

DOCUMENTS = ["/openapi.json", "/docs", "/console", "/console/console.js", "/console/console.css"]


@pytest.fixture
def stranger(live: Live) -> Iterator[httpx2.Client]:
    """A client without a key, which follows no redirect."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{live.ports['api-1']}") as client:
        yield client


def test_the_root_leads_a_browser_to_the_console_and_lists_all_paths_for_programs(
    stranger: httpx2.Client,
) -> None:
    led = stranger.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (led.status_code, led.headers["location"]) == (302, "/console")
    listed = stranger.get("/")
    assert listed.status_code == 200
    for path in ("console", "docs", "openapi", "health"):
        assert stranger.get(listed.json()[path]).status_code == 200


def test_posting_to_the_root_is_still_a_run_of_agentbase(stranger: httpx2.Client, live: Live) -> None:
    refused = stranger.post("/", json={"message": "hi"})
    assert refused.status_code == 401
    assert "error" in refused.json()


@pytest.mark.parametrize("path", ["/console/", "/docs/", "/openapi.json/", "/api/v1/tasks/", "/readyz/"])
def test_a_slash_at_the_end_makes_no_difference(admin: httpx2.Client, path: str) -> None:
    assert admin.get(path, follow_redirects=True).status_code == 200


def test_a_task_is_read_with_a_slash_too(admin: httpx2.Client) -> None:
    task = admin.post("/api/v1/agents/@demo/echo/run/", json={"args": {}}).json()["task_id"]
    for path in (f"/tasks/{task}/", f"/api/v1/tasks/{task}/"):
        assert admin.get(path, follow_redirects=True).json()["task_id"] == task
    missing = admin.get("/nowhere/", follow_redirects=True)
    assert (missing.status_code, missing.json()["code"]) == (404, "route_not_found")


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_is_compressed_for_callers_that_accept_it(stranger: httpx2.Client, path: str) -> None:
    with stranger.stream("GET", path, headers={"accept-encoding": "br, gzip;q=0.8"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "Accept-Encoding")
    plain = stranger.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) * 0.6
    refused = stranger.get(path, headers={"accept-encoding": "gzip;q=0, *"})
    assert "content-encoding" not in refused.headers
    assert packed.headers["etag"] != plain.headers["etag"]
    for tag in (packed.headers["etag"], plain.headers["etag"]):
        assert stranger.get(path, headers={"if-none-match": tag}).status_code == 304
