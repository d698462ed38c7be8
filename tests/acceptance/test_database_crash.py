"""PostgreSQL dies, or is away for longer than a lease, while runs are under way: no run has two lives, none pays."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Postgres, fresh_database
from tests.stack import ROOT, Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]
LEASE = 4.0
RUNS = 6


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stack(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    agents = [str(ROOT / "tests" / "acceptance" / "ledger_agents.py")]
    folder = tmp_path_factory.mktemp("database-crash")
    url = fresh_database(postgres.url)
    with Stack(folder, database_url=url, agents=agents, RUNYARD_LEASE_SECONDS=str(LEASE)) as running:
        yield running


def _crash(postgres: Postgres) -> None:
    postgres.restart()


def _kill_one_backend(postgres: Postgres) -> None:
    """As the kernel does for want of memory: the others are reset, and what was not made safe is gone."""
    assert postgres._process is not None
    backend = next(
        pid for pid, name in _children(postgres._process.pid) if b"runyard" in name or b"test_" in name
    )
    os.kill(backend, signal.SIGKILL)


def _children(parent: int) -> list[tuple[int, bytes]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == parent:
                    found.append((int(entry.name), (entry / "cmdline").read_bytes()))
            except OSError:
                continue
    return found


def _ended(stack: Stack, task_id: str) -> dict[str, Any]:
    """The task once it waits for a person or has ended; the api answers 503 while the database comes back."""
    found: dict[str, Any] = {}

    def settled() -> bool:
        status, body = stack.request("GET", f"/tasks/{task_id}")
        assert status in (200, 503), body
        found.update(body if status == 200 else {})
        return found.get("status") in ("completed", "failed", "stopped", "awaiting_review")

    wait_until(settled, seconds=90)
    return found


@pytest.mark.parametrize("blow", [_crash, _kill_one_backend])
def test_a_crash_right_after_the_claims_gives_no_run_two_lives(
    stack: Stack, postgres: Postgres, tmp_path: Path, blow: Callable[[Postgres], None]
) -> None:
    ledger = tmp_path / "ledger"
    ids = [stack.submit("@ledger/pays", {"ledger": str(ledger), "seconds": 2.0}) for _ in range(RUNS)]
    wait_until(lambda: ledger.exists() and "begin" in ledger.read_text(), seconds=60)
    blow(postgres)
    for task_id in ids:
        task = _ended(stack, task_id)
        assert task["status"] == "completed", task
        assert task["error"] is None
    counts = Counter(ledger.read_text().split("\n")[:-1])
    for task_id in ids:
        assert counts[f"{task_id} pay"] == 1, "an irreversible step is done once"
        assert counts[f"{task_id} begin"] == 1, "one claim, one life: the crash has taken nothing back"


def test_an_outage_longer_than_a_lease_charges_no_run_and_starts_none_again(
    stack: Stack, postgres: Postgres, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    ids = [stack.submit("@ledger/pays", {"ledger": str(ledger), "seconds": 1.5 * LEASE}) for _ in range(RUNS)]
    wait_until(lambda: ledger.exists() and ledger.read_text().count("begin") == RUNS, seconds=60)
    assert postgres._process is not None
    postgres._process.send_signal(signal.SIGQUIT)
    postgres._process.wait(30)
    time.sleep(2 * LEASE)  # the outage itself
    postgres.start()
    for task_id in ids:
        task = _ended(stack, task_id)
        assert (task["status"], task["attempt"], task["error"]) == ("completed", 1, None)
    counts = Counter(ledger.read_text().split("\n")[:-1])
    assert all(counts[f"{task_id} {what}"] == 1 for task_id in ids for what in ("begin", "pay"))
