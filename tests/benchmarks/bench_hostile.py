"""What one member's hostile inputs cost the others: /healthz and another organisation's runs, beside and without them.

python -m tests.benchmarks.bench_hostile [--seconds 6] [--database sqlite|postgres]

One api and one worker, as processes. For each input a member sends it again and again, one request after another, while
a stranger asks for /healthz and another organisation runs @demo/echo to its end. Ratios of the medians (and of the 95th
percentile) to those of the same callers before, when nobody was hostile. All callers share this process, so that inputs
which are costly to make (large JSON) count against the others here, too: the ratios are upper bounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from common.domain.roles import Role
from common.services import identity as keys
from common.services.identity import KeyRequest
from common.settings import Settings
from common.store import identity
from common.store.transaction import Store
from tests import databases
from tests.fakes import floods
from tests.fakes.floods import Flood, endless
from tests.servers import Postgres, fresh_database
from tests.stack import Stack

MANIFESTS = "/api/v1/agents/manifests"
YAML = {"content-type": "application/yaml"}
Hostile = Callable[[httpx2.Client], Any]


def _run(client: httpx2.Client, agent: str = "@demo/echo", **body: Any) -> httpx2.Response:
    return client.post(f"/api/v1/agents/{agent}/run", json=body)


def _publish(client: httpx2.Client, name: str, schema: dict[str, Any]) -> None:
    manifest = {"name": name, "version": "1.0.0", "instructions": "x", "input": {"schema": schema}}
    client.post(MANIFESTS, json=manifest)


def _pattern(client: httpx2.Client) -> None:
    _publish(client, "@hostile/pattern", {"properties": {"a": {"pattern": "^(a+)+$"}}})
    _run(client, "@hostile/pattern", args={"a": "a" * 5_000 + "!"})


def _unique(client: httpx2.Client) -> None:
    _publish(client, "@hostile/unique", {"properties": {"a": {"uniqueItems": True}}})
    _run(client, "@hostile/unique", args={"a": [{"a": n, "b": [n]} for n in range(60_000)]})


def _references(client: httpx2.Client) -> None:
    doubled = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(22)}
    schema = {"$defs": doubled | {"d22": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}
    _run(client, query="x", output_config={"output_schema": {"type": "object"} | schema})


def _yaml(client: httpx2.Client) -> None:
    text = "name: '@hostile/yaml'\nversion: 1.0.0\nmeta:\n" + "".join(
        f"  k{n}: {{a: [1, 2]}}\n" for n in range(12_000)
    )
    client.post(MANIFESTS, content=text[:250_000].encode(), headers=YAML)


def _aliases(client: httpx2.Client) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    client.post(MANIFESTS, content="\n".join(lines).encode(), headers=YAML)


def _range(client: httpx2.Client) -> None:
    _run(client, version=" || ".join(["^1.0.0"] * 10_000))
    _run(client, version="1." + "9" * 60)


def _pages(client: httpx2.Client) -> None:
    if not client.get("/tasks?limit=100").json()["data"]:
        for _ in range(8):
            _run(client, args={"blob": "x" * 8_000_000})
    client.get("/api/runs?limit=100")
    client.get("/tasks?limit=100")


def _large_json(client: httpx2.Client) -> None:
    client.post("/api/v1/agents/@demo/echo/run", content=b'{"args": ' + b"[" * 200_000)
    _run(client, args={"a": [[n] for n in range(200_000)]})


def _mcp(url: str) -> Hostile:
    def send(client: httpx2.Client) -> None:
        server = [{"name": "flood", "url": url}]
        answer = _run(client, "@hostile/pattern", query="x", args={"a": "a"}, mcp_servers=server)
        if answer.status_code == 202:
            client.get(f"/tasks/{answer.json()['task_id']}?wait=10")

    return send


@dataclass
class Caller:
    """Calls again and again, on a thread of its own, and remembers how long each answer took."""

    call: Callable[[], Any]
    pause: float
    seconds: list[float] = field(default_factory=list)

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            self.call()
            self.seconds.append(time.monotonic() - began)
            time.sleep(self.pause)


def _medians(
    stranger: httpx2.Client, other: httpx2.Client, hostile: Callable[[], Any] | None, seconds: float
) -> list[float]:
    def echo() -> None:
        task = _run(other, args={"n": 1}).raise_for_status().json()["task_id"]
        done = other.get(f"/tasks/{task}?wait=30").json()
        assert done["status"] == "completed", done

    callers = [Caller(lambda: stranger.get("/healthz").raise_for_status(), 0.01), Caller(echo, 0.02)]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=caller.run, args=(until,)) for caller in callers]
    if hostile is not None:
        threads.append(threading.Thread(target=Caller(hostile, 0.0).run, args=(until,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = []
    for caller in callers:
        found += [statistics.median(caller.seconds), statistics.quantiles(caller.seconds, n=20)[18]]
    return found


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        yield ""
        return
    server = Postgres()
    server.start()
    try:
        yield fresh_database(server.url)
    finally:
        server.stop()


def _key(stack: Stack, database_url: str, name: str) -> str:
    """A key of a new organisation."""
    db = databases.opened(Settings(home=stack.home, database_url=database_url).database)
    with Store(db).begin() as tx:
        org_id = identity.insert_organisation(tx, name)
        made = keys.create_key(tx, org_id, KeyRequest("k", Role.ADMIN, None), "system", Role.OWNER)
    db.close()
    return made.key


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--database", choices=("sqlite", "postgres"), action="append")
    given = parser.parse_args()
    for kind in given.database or ("sqlite", "postgres"):
        print(f"-- {kind}: ratio to idle, /healthz median and p95, another's run median and p95")
        with (
            _database(kind) as url,
            Flood(floods.http("Content-Type: application/json", endless)) as flood,
            tempfile.TemporaryDirectory() as folder,
            Stack(Path(folder), database_url=url, RUNYARD_REQUESTS_PER_MINUTE="0") as stack,
        ):
            base, member, other = stack.url(), _key(stack, url, "hostile"), _key(stack, url, "other")
            inputs: dict[str, Hostile] = {
                "a pattern, 5,000 letters": _pattern, "60,000 unique objects": _unique,
                "22 doubling references": _references, "250 KB of YAML": _yaml, "YAML aliases": _aliases,
                "version ranges": _range, "JSON, deep and wide": _large_json,
                "pages of 8 MB runs": _pages, "an MCP server without an end": _mcp(f"http://127.0.0.1:{flood.port}/mcp"),
            }  # fmt: skip
            with (
                httpx2.Client(base_url=base, timeout=60) as stranger,
                httpx2.Client(base_url=base, timeout=60, headers=_bearer(other)) as neighbour,
                httpx2.Client(base_url=base, timeout=60, headers=_bearer(member)) as client,
            ):
                _medians(stranger, neighbour, None, 2.0)  # warm
                idle = _medians(stranger, neighbour, None, given.seconds)
                print("   idle: " + ", ".join(f"{value * 1000:.1f} ms" for value in idle))
                for name, send in inputs.items():
                    beside = _medians(stranger, neighbour, partial(send, client), given.seconds)
                    ratios = [b / i for b, i in zip(beside, idle, strict=True)]
                    print(f"   {name:30s} " + "  ".join(f"{ratio:5.2f}" for ratio in ratios), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
