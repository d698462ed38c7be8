"""Several api processes on one port."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack import Stack

APIS = ("api-1", "api-2")
CONNECTIONS = 48
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Two apis that share their port, and a worker."""
    with Stack(tmp_path, api=2, one_port=True) as started:
        yield started


def accepted_sockets(port: int) -> set[str]:
    """Connections to a port, from the side that accepted them, as the links of `/proc/PID/fd` name them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"}


def connected(stack: Stack) -> dict[str, set[str]]:
    """The connections that each api has accepted."""
    accepted = accepted_sockets(stack.ports["api-1"])
    found: dict[str, set[str]] = {}
    for name in APIS:
        folder = Path("/proc") / str(stack.processes[name].pid) / "fd"
        found[name] = set()
        for link in folder.iterdir():
            try:
                found[name] |= {str(link.readlink())} & accepted
            except FileNotFoundError:
                continue  # closed meanwhile
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux shows what a process has open")
def test_the_system_spreads_connections_over_them(stack: Stack) -> None:
    before = connected(stack)
    opened = [http.client.HTTPConnection("127.0.0.1", stack.ports["api-1"]) for _ in range(CONNECTIONS)]
    for connection in opened:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
    share = {name: len(sockets - before[name]) for name, sockets in connected(stack).items()}
    for connection in opened:
        connection.close()
    assert sum(share.values()) == CONNECTIONS
    assert min(share.values()) > CONNECTIONS / 10


def test_each_of_them_shows_what_another_accepted_and_one_serves_on_alone(stack: Stack) -> None:
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda _: stack.submit("@demo/echo", {"a": 1}), range(16)))
    stack.kill("api-2")
    for task_id in accepted:
        assert stack.until(task_id)["status"] == "completed"
