"""Each bound is tried from both sides; every route that reads a body refuses what no route should read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import orjson
import pytest

from runyard_api.fronts import operations
from runyard_api.http.operations import Operation
from runyard_common.identity.rules.roles import Role
from runyard_common.values import bounds
from runyard_common.values.bounds import BOUNDS, Bound
from runyard_common.values.ids import uuid7
from tests.api_server import Api
from tests.members import key, organisation, person, sign_in
from tests.stocked import Stocked

#: Bounds that settings give here, so that a test need not send or make so much.
SET = {
    "json_body": 2_000_000, "upload": 3_000_000, "waiting_runs": 5, "schedules": 3, "requests": 150,
    "open_requests": 30,
}  # fmt: skip
Answers = tuple[httpx2.Response, httpx2.Response]
Try = Callable[[httpx2.Client, int], Answers]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    given: dict[str, Any] = {BOUNDS[name].setting: most for name, most in SET.items()}
    home = tmp_path_factory.mktemp("limits") / "home"
    given |= {"model": "openai:x", "model_base_url": "http://127.0.0.1:9", "trusted_proxies": "127.0.0.1"}
    with Api(home, **given) as one:
        yield one


@pytest.fixture
def client(api: Api) -> Iterator[httpx2.Client]:
    """A client of an organisation of its own, with an agent."""
    yield from _client(api)


def _client(api: Api) -> Iterator[httpx2.Client]:
    with api.client(key(api, organisation(api))) as one:
        manifest = {"name": "@limits/one", "version": "1.0.0", "kind": "declared", "instructions": "hi"}
        one.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        yield one


def run(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    """Ask for a run, which nothing keeps: a dry one."""
    return client.post("/api/v1/agents/@limits/one/run?dry_run=1", json={"query": "hi"} | fields)


def both(ask: Callable[[int], httpx2.Response]) -> Try:
    """What is answered to as much as there may be, and to one more."""
    return lambda client, most: (ask(most), ask(most + 1))


def sized(client: httpx2.Client, size: int) -> httpx2.Response:
    """A JSON body of so many bytes."""
    frame = orjson.dumps({"query": "hi", "args": {"t": ""}})
    body = frame.replace(b'"t":""', b'"t":"' + b"x" * (size - len(frame)) + b'"')
    headers = {"content-type": "application/json"}
    return client.post("/api/v1/agents/@limits/one/run?dry_run=1", content=body, headers=headers)


def form(client: httpx2.Client, size: int) -> httpx2.Response:
    """A multipart body of so many bytes."""
    head = b'--b\r\ncontent-disposition: form-data; name="a"; filename="a.txt"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    body = head + b"x" * (size - len(head) - len(tail)) + tail
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return client.post("/api/v1/agents/@limits/one/run?dry_run=1", content=body, headers=headers)


def parts(client: httpx2.Client, files: int, fields: int) -> httpx2.Response:
    """A form of so many parts."""
    given = [("f", (f"{n}.txt", b"x")) for n in range(files)] or None
    data = {"query": "hi"} | {f"x{n}": "1" for n in range(fields - 1)}
    if given is None:
        return client.post(
            "/api/v1/agents/@limits/one/run?dry_run=1", files=[(n, (None, v)) for n, v in data.items()]
        )
    return client.post("/api/v1/agents/@limits/one/run?dry_run=1", data={"query": "hi"}, files=given)


def yaml(client: httpx2.Client, text: str) -> httpx2.Response:
    """A manifest in YAML."""
    head = "name: '@limits/yaml'\nversion: 1.0.0\nkind: declared\ninstructions: hi\n"
    headers = {"content-type": "application/yaml"}
    return client.post("/api/v1/agents/manifests", content=(head + text).encode(), headers=headers)


def _yaml_body(client: httpx2.Client, most: int) -> Answers:
    head = len("name: '@limits/yaml'\nversion: 1.0.0\nkind: declared\ninstructions: hi\n")
    return yaml(client, "#" * (most - head)), yaml(client, "#" * (most - head + 1))


def _yaml_values(client: httpx2.Client, most: int) -> Answers:
    ten, over = (
        f"config: {{a: [{', '.join('1' * 1 for _ in range(count))}]}}\n" for count in (most - 100, most)
    )
    return yaml(client, ten), yaml(client, over)


def _nested(client: httpx2.Client, most: int) -> Answers:
    def ask(levels: int) -> httpx2.Response:
        inside = levels - 1  # the body itself is one
        body = b'{"query":"hi","args":' + b"[" * inside + b"]" * inside + b"}"
        headers = {"content-type": "application/json"}
        return client.post("/api/v1/agents/@limits/one/run?dry_run=1", content=body, headers=headers)

    return ask(most), ask(most + 1)


def _values(client: httpx2.Client, most: int) -> Answers:
    return run(client, args=[1] * (most - 10)), run(client, args=[1] * (most + 1))


def _head(client: httpx2.Client, most: int) -> Answers:
    with httpx2.Client(
        base_url=client.base_url, headers=client.headers
    ) as plain:  # 431 is no operation's answer
        return (
            plain.get("/api/v1/me", headers={"x-filler": "x" * (most - 2_000)}),
            plain.get("/api/v1/me", headers={"x-filler": "x" * most}),
        )


def _metadata(client: httpx2.Client, most: int) -> Answers:
    frame = len(orjson.dumps({"t": ""}))
    return run(client, metadata={"t": "x" * (most - frame)}), run(
        client, metadata={"t": "x" * (most - frame + 1)}
    )


def _filled(make: Callable[[httpx2.Client, int], httpx2.Response]) -> Try:
    """What is answered to the last that there is room for, and to the one after it."""

    def fill(client: httpx2.Client, most: int) -> Answers:
        answers = [make(client, n) for n in range(most + 1)]
        return answers[-2], answers[-1]

    return fill


def _webhook(client: httpx2.Client, n: int) -> httpx2.Response:
    return client.post("/api/v1/webhooks", json={"url": f"https://example.com/{n}"})


def _schedule(client: httpx2.Client, n: int) -> httpx2.Response:
    body = {"agent": "@limits/one", "schedule": "0 0 1 1 *", "run": {"query": "hi"}}
    return client.post("/api/v1/schedules", json=body)


def _early_in_a_minute() -> None:
    """Requests are counted by the minutes of the clock: at the end of one, more pass in the next."""
    late = time.time() % 60 - 35
    if late > 0:
        time.sleep(25 - late)


def _request(client: httpx2.Client, most: int) -> Answers:
    for _ in range(most - 2):  # one was the manifest
        client.get("/api/v1/me").raise_for_status()
    return client.get("/api/v1/me"), client.get("/api/v1/me")


def _open_request(client: httpx2.Client, most: int) -> Answers:
    with httpx2.Client(base_url=client.base_url, headers={"x-forwarded-for": "203.0.113.7"}) as stranger:
        answers = [stranger.get("/metrics") for _ in range(most + 1)]
    return answers[-2], answers[-1]


def _keyed(client: httpx2.Client, length: int) -> httpx2.Response:
    body = {"kind": "model", "selector": "x", "max_concurrent": 1}
    return client.post("/api/v1/limits", json=body, headers={"idempotency-key": "k" * length})


def _open_body(client: httpx2.Client, most: int) -> Answers:
    """An invitation that a stranger accepts, with spaces behind it."""
    made = client.post("/api/v1/invitations", json={"email": "new@example.com", "role": "viewer"})
    given = {
        "token": made.raise_for_status().json()["token"],
        "name": "New",
        "password": "a long passphrase it is",
    }
    headers = {"content-type": "application/json"}
    with httpx2.Client(base_url=client.base_url) as stranger:
        over, under = (
            stranger.post(
                "/api/v1/invitations/accept", content=orjson.dumps(given).ljust(size), headers=headers
            )
            for size in (most + 1, most)
        )
    return under, over


TRIES: dict[str, Try] = {
    "head": _head,
    "json_body": lambda client, most: (sized(client, most), sized(client, most + 1)),
    "open_body": _open_body,
    "upload": lambda client, most: (form(client, most), form(client, most + 1)),
    "yaml_body": _yaml_body,
    "yaml_values": _yaml_values,
    "json_depth": _nested,
    "json_values": _values,
    "form_files": lambda client, most: (parts(client, most, 1), parts(client, most + 1, 1)),
    "form_fields": lambda client, most: (parts(client, 0, most), parts(client, 0, most + 1)),
    "idempotency_key": lambda client, most: (_keyed(client, most), _keyed(client, most + 1)),
    "metadata": _metadata,
    "prose": lambda client, most: (run(client, system="x" * most), run(client, system="x" * (most + 1))),
    "session_name": lambda client, most: (
        run(client, session_id="s" * most),
        run(client, session_id="s" * (most + 1)),
    ),
    "version": lambda client, most: (
        run(client, version=">=1.0.0".ljust(most)),
        run(client, version=">=1.0.0".ljust(most + 1)),
    ),
    "list_rows": lambda client, most: (
        client.get(f"/tasks?limit={most}"),
        client.get(f"/tasks?limit={most + 1}"),
    ),
    "wait": lambda client, most: (_waits(client, most), _waits(client, most + 1)),
    "run_schedules": lambda client, most: (
        run(client, schedules=[{"schedule": 60, "message": "x"}] * most),
        run(client, schedules=[{"schedule": 60, "message": "x"}] * (most + 1)),
    ),
    "waiting_runs": _filled(
        lambda client, n: client.post("/api/v1/agents/@limits/one/run", json={"query": "hi"})
    ),
    "schedules": _filled(_schedule),
    "webhooks": _filled(_webhook),
    "requests": _request,
    "open_requests": _open_request,
}


def _waits(client: httpx2.Client, seconds: int) -> httpx2.Response:
    """Wait for a run that has ended already."""
    made = client.post("/api/v1/agents/@limits/one/run", json={"query": "hi"}).raise_for_status().json()
    client.post(f"/tasks/{made['task_id']}/cancel").raise_for_status()
    return client.get(f"/tasks/{made['task_id']}?wait={seconds}")


#: Tried with callers that do not read, in test_connections.
UNREAD = {"unread", "all_unread"}


def test_every_bound_has_a_try() -> None:
    assert set(TRIES) | UNREAD == set(BOUNDS)


@pytest.fixture
def client_of_a_bound(api: Api, bound: Bound) -> Iterator[httpx2.Client]:
    """As `client`, whose first request is counted, too."""
    if bound.name in ("requests", "open_requests"):
        _early_in_a_minute()
    yield from _client(api)


@pytest.mark.parametrize("bound", [BOUNDS[name] for name in TRIES], ids=lambda each: each.name)
def test_a_bound_lets_as_much_pass_as_it_allows_and_no_more(
    client_of_a_bound: httpx2.Client, bound: Bound
) -> None:
    under, over = TRIES[bound.name](client_of_a_bound, SET.get(bound.name, bound.most))
    assert under.is_success, under.text[:500]
    assert (over.status_code, over.json()["code"]) == (bound.status, bound.code), over.text[:500]
    assert over.json()["detail"]


# --- every route that reads a body


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stocked]:
    settings: dict[str, Any] = {
        "max_body_bytes": 20_000,
        "max_upload_bytes": 30_000,
        "requests_per_minute": 0,
    }
    with Api(tmp_path_factory.mktemp("bodies") / "home", **settings) as api:
        yield Stocked(api)


def _deep() -> bytes:
    return b'{"a":' + b"[" * (bounds.JSON_DEPTH.most + 1) + b"]" * (bounds.JSON_DEPTH.most + 1) + b"}"


_JSON = "application/json"
#: What is sent, as what, and the status of the refusal (nugen's contract has 422 for 400).
REFUSED: dict[str, tuple[bytes, str, set[int]]] = {
    "too many bytes": (b'{"a":"' + b"x" * 40_000 + b'"}', _JSON, {413}),
    "deep": (_deep(), _JSON, {400, 422}),
    "very deep": (b"[" * 8_000 + b"]" * 8_000, _JSON, {400, 422}),
    "a field twice": (b'{"a":1,"a":2}', _JSON, {400, 422}),
    "a NUL": (b'{"a":"\\u0000"}', _JSON, {400, 422}),
    "a list": (b"[]", _JSON, {400, 422}),
    "no JSON": (b"{", _JSON, {400, 422}),
    "no UTF-8": (b'{"a":"\xff"}', _JSON, {400, 422}),
    "a number beyond doubles": (b'{"a":1e999}', _JSON, {400, 422}),
    "another type": (b"a=1", "text/plain", {415}),
    "a packed body": (b"{}", f"{_JSON}+gzip", {400, 415, 422}),
}
FORMS: dict[str, tuple[bytes, str, set[int]]] = {
    "too many bytes": (b"--b\r\n" + b"x" * 40_000, "multipart/form-data; boundary=b", {413}),
    "garbage": (b"garbage", "multipart/form-data; boundary=b", {400, 422}),
    "no boundary": (b"--b\r\n", "multipart/form-data", {400, 415, 422}),
}


def _writes() -> list[Operation]:
    return [each for each in operations() if each.body is not None or each.form is not None]


@pytest.fixture(scope="module")
def caller(stocked: Stocked) -> Iterator[httpx2.Client]:
    with stocked.api.client("") as one:
        yield one


def credentials(stocked: Stocked, operation: Operation) -> dict[str, str]:
    """Those of a key of its own, as some routes have rates by key; of a person where the route is a person's."""
    api, org_id = stocked.api, stocked.api.state.org_id
    if operation.permission is None or not operation.permission.startswith("account:"):
        return {"authorization": f"Bearer {key(api, org_id)}"}
    signed = sign_in(api, person(api, f"{uuid7()}@example.com", (org_id, Role.ADMIN)))
    return {"cookie": f"runyard_session={signed.token}", "x-csrf-token": signed.csrf, "x-org-id": org_id}


def _cases(operation: Operation) -> Iterator[tuple[str, tuple[bytes, str, set[int]]]]:
    if operation.body is not None:
        yield from REFUSED.items()
    if operation.form is not None:
        yield from ((f"form: {name}", case) for name, case in FORMS.items())


@pytest.mark.parametrize("operation", _writes(), ids=lambda each: each.name)
def test_no_route_reads_what_no_route_should_read(
    stocked: Stocked, caller: httpx2.Client, operation: Operation
) -> None:
    wrong: list[str] = []
    path = stocked.path(operation)
    # appstrate's contract judges first whether the agent is ready
    first = {400} if operation.name == "appstrate.start_run" else set()
    for what, (body, kind, statuses) in _cases(operation):
        headers = credentials(stocked, operation) | {"content-type": kind}
        answers = [caller.request(operation.method, path, content=body, headers=headers)]
        if "too many bytes" in what:  # and without its length, piece by piece
            pieces = iter([body[:100], body[100:]])
            answers.append(caller.request(operation.method, path, content=pieces, headers=headers))
        wrong += [
            f"{what}: {a.status_code} {a.text[:200]}"
            for a in answers
            if a.status_code not in statuses | first
        ]
    assert wrong == []
