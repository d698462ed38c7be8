"""Hostile input on every route: ids that are paths, bodies that are too much, headers that are two.

Nothing of it may become a failure of the server (5xx), reach a file, or break out of a header.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from runyard_api.access import cookies
from runyard_api.access.rate_limits import RateLimits
from runyard_api.access.sign_in_attempts import SignInAttempts
from runyard_api.http.errors import LONGEST_HEAD
from runyard_api.http.operations import Operation
from runyard_common.identity.rules.roles import Role
from tests.api_server import Api
from tests.members import browser, person
from tests.problems import check_problem
from tests.security import OPERATIONS, World, name_of

#: appstrate's run takes a body it cannot read for none (contract, section 3); a link's token comes before a body.
BODIED = [
    operation
    for operation in OPERATIONS
    if operation.body is not None and operation.name not in ("appstrate.start_run", "native.answer_question")
]
MOST = 50_000
#: Percent-encoded as they go over the wire, so that no client tidies them up.
TRICKS = {
    "a parent folder": "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "a parent folder with backslashes": "..%5c..%5cwindows%5cwin.ini",
    "dots": "%2e%2e",
    "encoded twice": "%252e%252e%252fetc%252fpasswd",
    "a NUL": "a%00b",
    "a line break": "a%0d%0aX-Evil:%20yes",
    "quotes of SQL": "%27%20OR%20%271%27=%271%27%20--",
    "a wildcard": "%25",
    "bytes that are no UTF-8": "%ff%fe",
    "a fox": "%F0%9F%A6%8A",
    "text right to left": "%E2%80%AEabc",
    "a tag of HTML": "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "very long": "a" * 5000,
    "a huge number": "9" * 400,
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server with small bounds."""
    home = tmp_path_factory.mktemp("inputs") / "home"
    settings: dict[str, Any] = {"model": "openai:scripted", "model_base_url": "http://127.0.0.1:9/v1"}
    with Api(home, max_body_bytes=MOST, max_upload_bytes=2 * MOST, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx2.Client]:
    """Its admin's key."""
    with world.api.client(world.key) as client:
        yield client


@pytest.fixture(autouse=True)
def no_earlier_tries(api: Api) -> None:
    """What other tests tried does not count against this one's."""
    api.state.rates, api.state.sign_ins = RateLimits(""), SignInAttempts("")


@pytest.fixture(scope="module")
def signed_in(api: Api, world: World) -> Iterator[httpx2.Client]:
    """A person, for what no key may."""
    user_id = person(api, "person@example.com", (world.org_id, Role.ADMIN))
    with browser(api, user_id) as client:
        yield client


def refused(answer: httpx2.Response) -> None:
    """A refusal of the client's, that names no file of the server and sets no header of the caller's."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert "x-evil" not in answer.headers
    assert "root:" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if "{" in o.path], ids=name_of)
def test_ids_are_names_of_objects_and_nothing_else(
    operation: Operation, world: World, client: httpx2.Client
) -> None:
    names = re.findall(r"\{(\w+)", operation.path)
    for trick, value in TRICKS.items():
        for name in names:
            url = world.url(operation, **{name: value})
            answer = client.request(operation.method, url, **world.body(operation))
            try:
                refused(answer)
            except AssertionError as error:
                raise AssertionError(f"{trick} as {name}: {error}") from None


@pytest.mark.parametrize("operation", BODIED, ids=name_of)
def test_too_much_is_refused_before_it_is_kept(
    operation: Operation, world: World, client: httpx2.Client, signed_in: httpx2.Client
) -> None:
    client = signed_in if operation.permission in cookies.ACCOUNT else client
    url, json = world.url(operation), {"content-type": "application/json"}
    tries = {
        "deep lists": b"[" * 20_000 + b"]" * 20_000,
        "deep objects": b'{"a":' * 7_000 + b"1" + b"}" * 7_000,
        "too many bytes": b'{"name": "' + b"a" * MOST + b'"}',
        "a list": b"[]",
        "a text": b'"x"',
        "a lone surrogate": b'{"name": "\\ud800"}',
        "a number beyond doubles": b'{"name": 1e999}',
        "NUL": b'{"name": "\\u0000", "message": "\\u0000", "agentName": "\\u0000"}',
        "no JSON": b"{",
    }
    for reason, content in tries.items():
        answer = client.request(operation.method, url, content=content, headers=json)
        assert 400 <= answer.status_code < 500, (reason, answer.status_code, answer.text[:200])
        if reason == "too many bytes":
            assert answer.status_code == 413, answer.text
    compressed = json | {"content-encoding": "gzip"}
    answer = client.request(operation.method, url, content=b"\x1f\x8b", headers=compressed)
    assert 400 <= answer.status_code < 500


#: The others take multipart forms, or no body at all.
JSON_ONLY = [operation for operation in BODIED if operation.form is None and not operation.body_optional]


@pytest.mark.parametrize("operation", JSON_ONLY, ids=name_of)
def test_a_browsers_form_is_no_json(
    operation: Operation, world: World, client: httpx2.Client, signed_in: httpx2.Client
) -> None:
    """What a page of another site can send without asking first (CORS-safelisted types) is not read."""
    client = signed_in if operation.permission in cookies.ACCOUNT else client
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = client.request(
            operation.method, world.url(operation), content=b'{"name": "x"}', headers={"content-type": kind}
        )
        assert answer.status_code == 415, (kind, answer.text)


LINE_BREAKS = ("a\r\nX-Evil: yes", "a\nX-Evil: yes", "a\rb", "a\0b")


@pytest.mark.parametrize("value", LINE_BREAKS)
def test_headers_of_callbacks_and_webhooks_are_one_line(
    value: str, world: World, client: httpx2.Client
) -> None:
    run = f"/api/v1/agents/{world.ids['agent']}/run"
    for headers in ({"X-A": value}, {value: "x"}):
        callback = {"url": "https://hooks.example.com/", "headers": headers}
        schedule = {
            "agent": world.ids["agent"],
            "schedule": 3600,
            "run": {"query": "x", "callback": callback},
        }
        tries: list[tuple[str, Any]] = [
            (run, {"query": "x", "callback": callback}),
            ("/api/v1/schedules", schedule),
            ("/", {"message": "x", "background": True, "callback": callback}),
            ("/run-agent", {"message": "x", "background": True, "callback": callback}),
        ]
        for path, body in tries:
            refused(client.post(path, json=body))
    for path, body in (
        ("/api/v1/webhooks", {"url": f"https://hooks.example.com/{value}"}),
        (
            "/api/webhooks",
            {"url": f"https://h.example/{value}", "events": ["run.failed"], "scope": "organization"},
        ),
    ):
        refused(client.post(path, json=body))


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "connection", "webhook-signature"]
)
def test_callbacks_cannot_set_headers_that_are_the_servers(
    name: str, world: World, client: httpx2.Client
) -> None:
    callback = {"url": "https://hooks.example.com/", "headers": {name: "x"}}
    body = {"query": "x", "callback": callback}
    answer = client.post(f"/api/v1/agents/{world.ids['agent']}/run", json=body)
    check_problem(answer, 400, "header_refused", f"callback.headers.{name}")


@pytest.mark.parametrize("value", LINE_BREAKS[:3])
def test_names_with_line_breaks_stay_out_of_headers(value: str, world: World, client: httpx2.Client) -> None:
    """Each of these names comes back in a Location, a cookie or nowhere, but never as a header of its own."""
    ids = world.ids
    for path, body in (
        ("/api/v1/keys", {"name": value}),
        ("/api/v1/agents", {"name": value}),
        ("/api/v1/organisations", {"name": value, "owner_email": "a@example.com"}),
        ("/api/v1/members", {"email": f"{value}@example.org"}),
        ("/api/v1/invitations", {"email": f"{value}@example.com"}),
        ("/api/applications", {"name": value}),
        ("/api/end-users", {"name": value}),
        (f"/api/v1/agents/{ids['agent']}/run", {"query": "x", "session_id": value}),
        (f"/api/v1/sessions/{ids['session_id']}/fork", {"key": value}),
        ("/api/v1/schedules", {"agent": ids["agent"], "schedule": 60, "name": value, "run": {"query": "x"}}),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code < 500, answer.text
        assert "x-evil" not in answer.headers
        assert not re.search(r"[\r\n]", answer.headers.get("location", ""))


def _raw(api: Api, request: bytes, seconds: float = 40) -> bytes:
    """What the server answers to bytes that no client library would send."""
    where = urlsplit(api.url)
    assert where.hostname is not None
    with socket.create_connection((where.hostname, where.port or 80), timeout=seconds) as line:
        try:
            line.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent
        found = b""
        try:
            while piece := line.recv(65536):
                found += piece
        except ConnectionResetError:
            pass
        return found


def _request(world: World, *lines: str, method: str = "GET", path: str = "/api/v1/me") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {world.key}", "connection: close"]
    return "\r\n".join([*head, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("x-a: " + "a" * LONGEST_HEAD,), b"431"),
        (tuple(f"x-{n}: {'a' * 50}" for n in range(2000)), b"431"),
        (("x-a: " + "a" * 4_000_000,), b"431"),
        (("cookie: " + "; ".join(f"a{n}=b" for n in range(3000)),), b"200"),
        (("x session: b",), b"400"),
        (("x-a: a\x00b",), b"400"),
        (("content-length: 5", "transfer-encoding: chunked"), b"400"),
        (("content-length: 1", "content-length: 2"), b"400"),
        (("content-length: -1",), b"400"),
    ],
)
def test_heads_that_are_too_long_or_ambiguous_are_refused(
    lines: tuple[str, ...], status: bytes, world: World
) -> None:
    answer = _raw(world.api, _request(world, *lines))
    assert answer.split(b" ", 2)[1] == status, answer[:300]
    assert b"200" in _raw(world.api, _request(world))[:20], "the server lives on"


def test_a_head_without_an_end_is_cut_off(world: World) -> None:
    answer = _raw(world.api, b"GET /api/v1/me HTTP/1.1\r\nx-a: " + b"a" * 3_000_000)
    assert answer.startswith(b"HTTP/1.1 431")


def test_a_long_path_or_query_is_refused(world: World) -> None:
    for path in ("/api/v1/agents/" + "a" * LONGEST_HEAD, "/api/v1/tasks?q=" + "a" * LONGEST_HEAD):
        answer = _raw(world.api, _request(world, path=path))
        assert answer.split(b" ", 2)[1] in (b"431", b"400"), answer[:200]


def test_large_bodies_after_each_other_are_no_long_head(world: World) -> None:
    """Keep-alive: the bytes of one request's body do not count as the head of the next."""
    with world.api.client(world.key) as client:
        for _ in range(4):
            body = {"kind": "session", "max_concurrent": 9, "padding": "x" * (MOST - 200)}
            assert client.post("/api/v1/limits", json=body).status_code == 400
            assert client.get("/api/v1/me").status_code == 200


@pytest.mark.parametrize("value", ["\x7f", "a\tb", "é", "a" * 300, "../../etc/passwd", "' OR 1=1 --"])
def test_a_session_by_header_is_a_name_and_nothing_else(value: str, world: World) -> None:
    path = f"/api/v3/agents/{world.ids['agent']}/run"
    body = b'{"message": 5}'
    request = _request(
        world, f"x-session-id: {value}", "content-type: application/json", f"content-length: {len(body)}",
        method="POST", path=path,
    )  # fmt: skip
    answer = _raw(world.api, request + body)
    assert answer.split(b" ", 2)[1] in (b"400", b"404", b"422"), answer[:300]
