"""`make bench-smoke`: Runyard and its peers can be measured. It fails on no time, only where something is broken."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.stack import ROOT


@pytest.mark.processes
@pytest.mark.timeout(600)  # it installs the peers where that has not been done
def test_runyard_and_its_peers_can_be_measured() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.bench_peers", "--smoke"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    for subject in ("Runyard, PostgreSQL", "Starlette + row + Celery", "saq"):
        assert f"\n| {subject} |" in done.stdout
