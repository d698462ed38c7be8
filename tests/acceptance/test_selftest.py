"""`runyard doctor --selftest` on real deployments: one that is well, and one that lacks workers and schedulers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from runyard_common.database.engine import Database
from runyard_common.environment import load
from runyard_common.identity.queries import identity
from runyard_common.runs.queries import workers
from runyard_launch.selftest import checks, organisation
from runyard_launch.selftest.canaries import is_of_selftest
from runyard_launch.selftest.selftest import selftest
from tests.stack import ROOT, Stack

pytestmark = pytest.mark.processes
PARTS = {
    "workers", "api", "runs", "webhooks", "schedule, as it is", "worker killed", "broker cut", "schedule, one more",
}  # fmt: skip


@pytest.mark.timeout(400)
def test_a_deployment_that_is_well_passes_and_nothing_is_left(tmp_path: Path) -> None:
    with Stack(tmp_path, RUNYARD_LEASE_SECONDS="6") as stack:
        env = stack.env | {"RUNYARD_PORT": str(stack.ports["api-1"])}
        command = [sys.executable, "-P", "-m", "runyard_launch.cli", "doctor", "--selftest", "--json"]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=350)
        rows = {row["part"]: row for row in json.loads(done.stdout)}
        tried = {part: row for part, row in rows.items() if part in PARTS}
        assert set(tried) == PARTS, done.stdout + done.stderr
        assert [row for row in tried.values() if row["verdict"] == "failed"] == []
        assert done.returncode == int(any(row["verdict"] == "failed" for row in rows.values()))
        for row in tried.values():
            assert row["figures"].get("lost", 0) == 0, row
            assert row["figures"].get("duplicates", 0) == 0, row
        assert tried["worker killed"]["figures"]["attempts"] == 2
        assert tried["worker killed"]["figures"]["steps"] == 5
        assert tried["webhooks"]["figures"]["answered_500"] == 3
        assert tried["broker cut"]["figures"]["connections"] > 0
        assert tried["workers"]["figures"]["workers"] == 1
        _nothing_left(f"sqlite:///{stack.home / 'runyard.db'}")


def _nothing_left(url: str) -> None:
    """No worker of it lives, and its organisation is closed."""
    with closing(Database(url)) as db, db.engine.connect() as conn:
        own = identity.organisation_named(conn, organisation.NAME)
        now = db.now(conn)
        left = [worker for worker in workers.every(conn) if worker.is_alive(now) and is_of_selftest(worker)]
    assert own is not None
    assert not own.active
    assert left == []


@pytest.mark.timeout(300)
def test_a_deployment_without_workers_and_schedulers_fails_and_is_left_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stack(tmp_path, api=0, workers=0, schedulers=0, RUNYARD_LEASE_SECONDS="3") as stack:
        for name, value in stack.env.items():
            if name.startswith("RUNYARD_") or name == "PYTHONPATH":
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("RUNYARD_ALLOW_PRIVATE_URLS", "false")
        monkeypatch.setattr(checks, "PATIENCE", 8.0)  # nothing comes, however long it waits
        before, found, pids = _workers(), {}, set[str]()  # other tests of this process may have some
        with closing(selftest(load(), lambda doing: None)) as lines:
            for line in lines:
                found[line.part] = line
                if line.part == "schedule, as it is":
                    pids = _workers() - before
                    break  # as a Ctrl-C would end it
        assert found["workers"].outcome == "failed"
        assert found["schedule, as it is"].outcome == "failed"
        assert "runyard scheduler" in found["schedule, as it is"].text
        assert found["webhooks"].outcome == "warning"
        assert "RUNYARD_ALLOWED_HOSTS" in found["webhooks"].text
        assert found["api"].outcome == "warning"
        assert len(pids) == 2
        assert not any(_is_worker(pid) for pid in pids)
        _nothing_left(f"sqlite:///{stack.home / 'runyard.db'}")


def _workers() -> set[str]:
    """The workers that this process has started."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in children if _is_worker(pid)}


def _is_worker(pid: str) -> bool:
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and b"runyard_workers" in command.read_bytes()
