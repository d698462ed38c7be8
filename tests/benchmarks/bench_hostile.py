"""What one member's hostile inputs cost the others: /healthz and another organisation's runs, beside and without them.

python -m tests.benchmarks.bench_hostile [--seconds 6] [--database sqlite|postgres]

One api and one worker, as processes. For each input a member sends it again and again (in a process of its own), one
request after another, while a stranger asks for /healthz and another organisation runs @demo/echo to its end. Ratios of
the medians (and of the 95th percentiles) to those of the same callers just before, without hostile calls.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity as keys
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.settings import Settings
from tests import databases
from tests.benchmarks.hostile_load import INPUTS
from tests.fakes import floods
from tests.fakes.floods import Flood, endless
from tests.servers import Postgres, fresh_database
from tests.stack import ROOT, Stack


def _run(client: httpx2.Client, agent: str = "@demo/echo", **body: Any) -> httpx2.Response:
    return client.post(f"/api/v1/agents/{agent}/run", json=body)


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


def _medians(stranger: httpx2.Client, other: httpx2.Client, seconds: float) -> list[float]:
    """/healthz median and 95th percentile, another's run median and 95th percentile, in seconds."""

    def echo() -> None:
        task = _run(other, args={"n": 1}).raise_for_status().json()["task_id"]
        done = other.get(f"/tasks/{task}?wait=30").json()
        assert done["status"] == "completed", done

    callers = [Caller(lambda: stranger.get("/healthz").raise_for_status(), 0.01), Caller(echo, 0.02)]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=caller.run, args=(until,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = []
    for caller in callers:
        found += [statistics.median(caller.seconds), statistics.quantiles(caller.seconds, n=20)[18]]
    return found


@contextmanager
def hostile(name: str, base: str, key: str, seconds: float, mcp_url: str) -> Iterator[list[str]]:
    """The hostile member at work for these seconds; the list holds how often it sent, once it has ended."""
    command = [sys.executable, "-m", "tests.benchmarks.hostile_load", name, base, key, str(seconds), mcp_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        sent: list[str] = []
        try:
            yield sent
            sent.append(process.stdout.readline().strip())
        finally:
            process.kill()


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


def key_of_new_organisation(stack: Stack, database_url: str, name: str) -> str:
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
    parser.add_argument("--input", choices=INPUTS, action="append")
    given = parser.parse_args()
    for kind in given.database or ("sqlite", "postgres"):
        print(f"-- {kind}: ratio to idle, /healthz median and p95, another's run median and p95")
        with (
            _database(kind) as url,
            Flood(floods.http("Content-Type: application/json", endless)) as flood,
            tempfile.TemporaryDirectory() as folder,
            Stack(Path(folder), database_url=url, RUNYARD_REQUESTS_PER_MINUTE="0") as stack,
        ):
            base, member, other = (
                stack.url(),
                key_of_new_organisation(stack, url, "hostile"),
                key_of_new_organisation(stack, url, "other"),
            )
            with (
                httpx2.Client(base_url=base, timeout=60) as stranger,
                httpx2.Client(base_url=base, timeout=60, headers=_bearer(other)) as neighbour,
            ):
                _medians(stranger, neighbour, 3.0)  # warm
                for name in given.input or INPUTS:
                    idle = _medians(stranger, neighbour, given.seconds)
                    with hostile(
                        name, base, member, given.seconds, f"http://127.0.0.1:{flood.port}/mcp"
                    ) as sent:
                        loaded = _medians(stranger, neighbour, given.seconds)
                    ratios = [b / i for b, i in zip(loaded, idle, strict=True)]
                    shown = "  ".join(
                        f"{r:5.2f} ({b * 1000:5.1f} ms)" for r, b in zip(ratios, loaded, strict=True)
                    )
                    print(f"   {name:12s} {shown}   sent {sent[0]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
