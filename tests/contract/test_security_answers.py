"""What every answer carries, and what none may carry."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from runyard_api.http.operations import Operation
from runyard_common.identity.rules.roles import Role
from tests.api_server import Api
from tests.members import person, sign_in
from tests.security import OPERATIONS, World, name_of

#: Whose answers are streams: they are cached nowhere by their own header.
STREAM = "text/event-stream"
#: Files without data, which a browser may keep and asks about again.
OPEN_FILES = ("console.console", "console.console_part", "console.console_part_of_a_folder")


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


@pytest.fixture(scope="module")
def anybody(api: Api) -> Iterator[httpx2.Client]:
    """A client without credentials."""
    with api.client("") as client:
        yield client


def _reads() -> list[Operation]:
    return [
        operation
        for operation in OPERATIONS
        if operation.method == "GET" and not any(answer.media_type == STREAM for answer in operation.answers)
    ]


@pytest.mark.parametrize("operation", _reads(), ids=name_of)
def test_every_answer_has_its_type_and_is_neither_guessed_at_nor_kept(
    world: World, client: httpx2.Client, anybody: httpx2.Client, operation: Operation
) -> None:
    for caller in (client, anybody):
        answer = world.call(caller, operation)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers.get("content-type") or not answer.content
        wanted = "no-cache" if operation.name in OPEN_FILES else "no-store"
        assert wanted in answer.headers["cache-control"], answer.headers
        if "text/html" in answer.headers.get("content-type", ""):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy


def test_every_page_is_in_no_frame_and_sends_no_other_site_where_it_was(
    world: World, anybody: httpx2.Client
) -> None:
    link = next(operation for operation in OPERATIONS if operation.name == "native.show_question")
    pages = [anybody.get("/console"), anybody.get("/docs")]
    pages.append(anybody.get(world.url(link), headers={"accept": "text/html"}))
    for page in pages:
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def test_no_answer_shows_which_software_gave_it_or_where_it_failed(
    world: World, client: httpx2.Client
) -> None:
    for path in ("/healthz", "/nope", "/api/v1/tasks/nope", "/api/v1/tasks?limit=x", "/console", "/docs"):
        answer = client.get(path)
        assert {"server", "x-powered-by", "via"}.isdisjoint(answer.headers)
        if answer.is_error:
            for inside in (
                "Traceback",
                "site-packages",
                ".py",
                "sqlalchemy",
                "SELECT",
                "starlette",
                "uvicorn",
            ):
                assert inside not in answer.text, answer.text


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "DEBUG", "PROPFIND"])
def test_methods_that_no_route_has_are_refused(client: httpx2.Client, method: str) -> None:
    for path in ("/api/v1/tasks", "/healthz", "/console"):
        assert client.request(method, path).status_code in (400, 405)


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/javascript"])
def test_a_download_is_an_attachment_that_no_browser_runs(client: httpx2.Client, kind: str) -> None:
    manifest = {"name": "@answers/one", "version": "1.0.0", "kind": "declared", "instructions": "hi"}
    client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
    files = {"a": ("page.html", b"<script>alert(1)</script>", kind)}
    made = client.post(
        "/api/v1/agents/@answers/one/run", data={"query": "hi"}, files=files
    ).raise_for_status()
    file_id = client.get(f"/tasks/{made.json()['task_id']}").json()["input"]["files"][0]["id"]
    answer = client.get(f"/api/v1/files/{file_id}")
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_token_of_a_sign_in_can_be_guessed(api: Api) -> None:
    user_id = person(api, "many@example.com", (api.state.org_id, Role.VIEWER))
    tokens = [sign_in(api, user_id).token for _ in range(20)]
    assert len(set(tokens)) == 20
    assert min(map(len, tokens)) >= 43, "256 bits in base64"
    assert len({token[:6] for token in tokens}) == 20, "and none is counted up"
