"""Behind a proxy that serves it under a path: every link this server makes carries the path of RUNYARD_PUBLIC_URL."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.api_server import Api
from tests.ports import free_port
from tests.prefix_proxy import NGINX, Proxy, nginx, proxied

PREFIX = "/runyard"
RUN = "/api/v1/agents/@test/chat/run"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Api]:
    settings = {
        "model": "openai:scripted",
        "model_base_url": "http://127.0.0.1:9/v1",
        "public_url": f"http://127.0.0.1:{port}{PREFIX}/",
    }
    with Api(tmp_path_factory.mktemp("prefix") / "home", **settings) as server:
        with server.client() as client:
            manifest = {"name": "@test/chat", "instructions": "Chat."}
            client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        yield server


@pytest.fixture(scope="module", params=["taken_off", "left_on", "nginx"])
def proxy(
    request: pytest.FixtureRequest, api: Api, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy that takes the prefix off, as most do, or leaves it on; and nginx itself."""
    if request.param != "nginx":
        with proxied(api.url, port, PREFIX, strip=request.param == "taken_off") as proxy:
            yield proxy
    elif "nginx" in os.environ.get("TEST_WITHOUT", "").split(","):
        pytest.skip("TEST_WITHOUT=nginx")
    else:
        assert NGINX.exists(), (
            "nginx is not installed: tools/test-servers.sh brings it, TEST_WITHOUT=nginx does without"
        )
        with nginx(api.url, port, tmp_path_factory.mktemp("nginx"), PREFIX) as proxy:
            yield proxy


@pytest.fixture
def client(api: Api, proxy: Proxy) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {api.key}"}
    with httpx2.Client(base_url=proxy.url, headers=headers, timeout=30) as client:
        yield client


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    if isinstance(value, str):
        yield value


def test_what_is_made_has_its_location_and_links_under_the_prefix(client: httpx2.Client) -> None:
    by_path: dict[str, dict[str, Any]] = {
        RUN: {"query": "x"},
        "/api/v1/schedules": {"agent": "@test/chat", "schedule": "@yearly", "run": {"query": "x"}},
        "/api/v1/agents": {},
        "/api/v1/webhooks": {"url": "http://127.0.0.1:8099/hook"},
    }
    for path, body in by_path.items():
        made = client.post(path, json=body)
        again = client.post(path, json=body, headers={"idempotency-key": path})
        for answer in (made, again):
            assert answer.is_success, answer.text
            assert answer.headers["location"].startswith(f"{PREFIX}/api/v1/")
            paths = [text for text in texts(answer.json()) if text.startswith("/")]
            assert all(text.startswith(PREFIX) for text in paths), paths
            found = httpx2.get(str(client.base_url.join(answer.headers["location"])), headers=client.headers)
            assert found.status_code == 200, found.text


def test_lists_and_tasks_link_under_the_prefix(client: httpx2.Client) -> None:
    task_id = client.post(RUN, json={"query": "x"}).json()["task_id"]
    for path in (f"/tasks/{task_id}", "/api/v1/schedules", "/api/v1/agents"):
        paths = [text for text in texts(client.get(path).json()) if text.startswith("/")]
        assert all(text.startswith(PREFIX) for text in paths), paths


def test_problems_name_their_explanation_under_the_prefix(client: httpx2.Client, api: Api) -> None:
    for answer in (
        client.get("/tasks/nothing"),
        client.get("/no/such/route"),
        httpx2.get(f"{api.url}/api/v1/agents", headers={"x": "y" * 66_000}),
        httpx2.get(f"{api.url}/api/v1/agents", headers={"x": "y" * 400_000}),
    ):
        assert answer.json()["type"].startswith(f"{PREFIX}/docs#error-"), answer.text


def test_the_document_names_the_server_and_the_page_finds_it(client: httpx2.Client) -> None:
    assert client.get("/openapi.json").json()["servers"] == [{"url": PREFIX}]
    page = client.get("/docs").text
    assert "href='openapi.json'" in page


@pytest.mark.parametrize("page", ["console", "docs"])
def test_pages_with_a_slash_lead_to_those_without(client: httpx2.Client, page: str) -> None:
    answer = client.get(f"/{page}/", follow_redirects=True)
    assert answer.status_code == 200
    assert str(answer.url).endswith(f"{PREFIX}/{page}")


def test_what_the_console_page_names_is_there(client: httpx2.Client) -> None:
    page = client.get("/console")
    named = re.findall(r'(?:href|src)="(?!data:|#)([^"]+)"', page.text)
    assert named
    for part in named:
        assert client.get(str(page.url.join(part))).status_code == 200, part


def test_a_prefix_that_is_also_a_route_s_is_taken_for_the_route(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    port = free_port()
    home = tmp_path_factory.mktemp("same") / "home"
    with Api(home, public_url=f"http://127.0.0.1:{port}/api") as api, proxied(api.url, port, "/api") as proxy:
        headers = {"authorization": f"Bearer {api.key}"}
        answer = httpx2.get(f"{proxy.url}/api/v1/agents", headers=headers)
        assert answer.status_code == 200
        assert httpx2.get(f"{proxy.url}/readyz").status_code == 200


class TestSlashesInNames:
    """%2F in a path is part of a name."""

    def test_a_session_whose_name_has_slashes_is_reached(self, api: Api) -> None:
        headers = {"authorization": f"Bearer {api.key}"}
        with httpx2.Client(base_url=api.url, headers=headers) as client:
            for name in ("a/b", "a/messages", "%2F", "ä/ö"):
                client.post(RUN, json={"query": "x", "session_id": name}).raise_for_status()
                path = f"/api/v1/sessions/{quoted(name)}"
                found = client.get(path)
                assert found.status_code == 200, found.text
                assert found.json()["key"] == name, json.dumps(found.json())
                assert client.get(f"{path}/messages").status_code == 200

    def test_an_agent_s_name_may_be_quoted_whole_on_every_surface(self, api: Api) -> None:
        with api.client() as client:
            assert client.get("/api/v1/agents/@test%2Fchat").status_code == 200
            assert client.get("/api/v1/agents/%40test%2fchat").status_code == 200
            assert client.post("/api/v1/agents/@test%2Fchat/run", json={"query": "x"}).status_code == 202
            assert client.post("/api/agents/@test%2Fchat/run", json={"input": {}}).is_success

    def test_what_is_not_there_is_refused_in_words(self, api: Api) -> None:
        with api.client() as client:
            answer = client.get("/api/v1/sessions/no%2Fsuch")
            assert answer.status_code == 404
            assert answer.json()["code"] == "session_not_found"
            assert client.get("/no%2Fsuch%2Froute").json()["code"] == "route_not_found"


def quoted(name: str) -> str:
    return quote(name, safe="")
