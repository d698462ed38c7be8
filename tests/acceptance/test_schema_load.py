"""Schemas that are made to cost, against the api as a process: other callers are answered meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from runyard_launch.supervisor import process
from tests.acceptance.test_api_process import answers, migrate, start
from tests.lateness import Lateness
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(240)
#: Seconds that another caller may wait: generous for a busy machine, a fraction of the former wait.
MOST_SECONDS = 1.0
_names = itertools.count()


class Neighbour:
    """Asks for /healthz all the time, over a connection of its own, and remembers the longest answer."""

    def __init__(self, url: str) -> None:
        self.longest, self.answers = 0.0, 0
        self.late = Lateness()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(url,), daemon=True)

    def _ask(self, url: str) -> None:
        with httpx2.Client(base_url=url, timeout=120) as client:
            while not self._ended.is_set():
                began = time.monotonic()
                client.get("/healthz").raise_for_status()
                self.longest = max(self.longest, time.monotonic() - began)
                self.answers += 1
                self._ended.wait(0.005)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        wait_until(lambda: self.answers > 5)
        self.late.__enter__()
        self.longest = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self.late.__exit__()
        self._ended.set()
        self._thread.join(120)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    home = tmp_path_factory.mktemp("schemas") / "home"
    home.mkdir()
    migrate(home)
    port = free_port()
    api = start(home, port)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), seconds=60)
        bearer = {"authorization": f"Bearer {(home / 'admin.key').read_text().strip()}"}
        with httpx2.Client(base_url=url, headers=bearer, timeout=120) as client:
            yield client
    finally:
        process.end(api, grace=10)


def publish(client: httpx2.Client, schema: dict[str, Any] | None = None) -> httpx2.Response:
    """Publish a declared agent of its own name with this input schema."""
    manifest = {"name": f"@load/a{next(_names)}", "version": "1.0.0", "instructions": "x"}
    return client.post(
        "/api/v1/agents/manifests", json=manifest | ({"input": {"schema": schema}} if schema else {})
    )


def run(client: httpx2.Client, agent: str, **body: Any) -> httpx2.Response:
    return client.post(f"/api/v1/agents/{agent}/run", json=body)


@contextmanager
def others_are_answered(client: httpx2.Client) -> Iterator[None]:
    with Neighbour(str(client.base_url)) as neighbour:
        yield
    print(f"the neighbour waited {neighbour.longest * 1000:.0f} ms at most, {neighbour.answers} answers")
    assert neighbour.longest < MOST_SECONDS + neighbour.late.seconds


def objects(count: int) -> list[dict[str, Any]]:
    return [{"a": i, "b": [i]} for i in range(count)]


def defs(count: int) -> dict[str, Any]:
    named = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(count)}
    return {"$defs": named | {f"d{count}": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}


INPUTS: list[tuple[str, dict[str, Any], Any]] = [
    ("25 letters", {"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 25 + "!"}),
    ("40 letters", {"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 40 + "!"}),
    ("1,500 unique objects", {"properties": {"a": {"uniqueItems": True}}}, {"a": objects(1500) + objects(1)}),
    ("4,000 unique objects", {"properties": {"a": {"uniqueItems": True}}}, {"a": objects(4000) + objects(1)}),
    ("60,000 unique objects", {"properties": {"a": {"uniqueItems": True}}}, {"a": objects(60_000)}),
    ("10 doubling references", defs(10), {"a": 5}),
]


@pytest.mark.parametrize(("schema", "args"), [row[1:] for row in INPUTS], ids=[row[0] for row in INPUTS])
def test_a_run_whose_arguments_are_checked_lets_others_pass(
    client: httpx2.Client, schema: dict[str, Any], args: Any
) -> None:
    agent = publish(client, schema)
    assert agent.status_code == 201, agent.text
    with others_are_answered(client):
        answer = run(client, agent.json()["name"], args=args)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_input"
    assert answer.json()["field"].startswith("args")


OUTPUTS: list[tuple[str, dict[str, Any]]] = [
    (
        "10,000 properties",
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(10_000)}},
    ),
    (
        "60,000 properties",
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(60_000)}},
    ),
    ("15 doubling references", {"type": "object"} | defs(15)),
    ("22 doubling references", {"type": "object"} | defs(22)),
    ("a long repetition", {"type": "object", "properties": {"a": {"pattern": "a{1,100000}"}}}),
]


@pytest.mark.parametrize("schema", [row[1] for row in OUTPUTS], ids=[row[0] for row in OUTPUTS])
def test_an_output_schema_that_is_too_large_is_refused_and_others_pass(
    client: httpx2.Client, schema: dict[str, Any]
) -> None:
    agent = publish(client).json()["name"]
    with others_are_answered(client):
        answers = [
            run(client, agent, query="x", output_config={"output_schema": schema}),
            publish(client, schema),
        ]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(400, "schema_too_large")] * 2
    assert [a.json()["field"] for a in answers] == ["output_config.output_schema", "input.schema"]


def test_many_schemas_in_one_request_are_refused_and_others_pass(client: httpx2.Client) -> None:
    agent = publish(client).json()["name"]
    steps = [
        {"id": f"s{i}", "name": "s", "description": "d", "depends_on": [],
         "output_schema": {"type": "object", "properties": {"a": {"pattern": rf"^{i}\p{{L}}{{1,60}}$"}}}}
        for i in range(200)
    ]  # fmt: skip
    with others_are_answered(client):
        flow = {"id": "w", "name": "w", "description": "d", "steps": steps}
        answer = run(client, agent, query="x", workflows=[flow])
    assert (answer.status_code, answer.json()["code"]) == (400, "schema_too_large")
    assert answer.json()["field"] == "workflows[0].steps[2].output_schema"


def test_prices_patterns_and_older_drafts_are_judged_as_their_authors_mean(client: httpx2.Client) -> None:
    price = {"properties": {"price": {"type": "number", "multipleOf": 0.01}}}
    agent = publish(client, price).json()["name"]
    assert [run(client, agent, args={"price": p}).status_code for p in (19.99, 4.02, 1.11, 1e20, 19.995)] == [
        202, 202, 202, 202, 400,
    ]  # fmt: skip
    draft = {"$schema": "http://json-schema.org/draft-07/schema#"}
    pair = {"type": "array", "items": [{"type": "integer"}], "additionalItems": False}
    agent = publish(client, draft | {"type": "object", "properties": {"t": pair}}).json()["name"]
    assert [run(client, agent, args={"t": t}).status_code for t in ([1], ["x"], [1, 2])] == [202, 400, 400]
    refused = publish(client, {"properties": {"k": {"pattern": r"^(?=.*\d)\p{Lu}"}}}).json()
    assert refused["code"] == "invalid_schema"
    assert "$.properties.k.pattern" in refused["detail"]
    assert "look-ahead" in refused["detail"]
