"""The short form of `make chaos`: real processes killed while tasks run, then the counts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median

import pytest

from tests.benchmarks.bench_fairness import crowded, flooded
from tests.chaos.runs import run
from tests.stack import ROOT, Stack


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("database", "broker"),
    [
        pytest.param("sqlite", "valkey", marks=pytest.mark.chaos),
        pytest.param("postgres", "rabbitmq", marks=[pytest.mark.postgres, pytest.mark.rabbitmq]),
    ],
)
def test_nothing_is_lost_or_done_twice_while_processes_are_killed(database: str, broker: str) -> None:
    verdict = run(60, 14, database, broker, every=3.5, workers=2, apis=1)
    assert verdict.clean, str(verdict)
    assert verdict.statuses["completed"] == sum(verdict.statuses.values()), str(verdict)


def test_a_handler_that_blocks_for_five_leases_on_a_healthy_worker_runs_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    agents = [str(ROOT / "tests" / "chaos" / "agents.py")]
    with Stack(tmp_path, agents=agents, CHAOS_LEDGER=str(ledger), RUNYARD_LEASE_SECONDS="1") as stack:
        task = stack.run("@chaos/blocker", {"seconds": 5.0}, seconds=40)
        assert (task["status"], task["attempt"]) == ("completed", 1)
    assert len(ledger.read_text().splitlines()) == 1


def test_a_neighbours_flood_and_a_crowd_that_waits_delay_nobody_else(tmp_path: Path) -> None:
    idle, beside = asyncio.run(flooded(600, 5, 0.1, f"sqlite:///{tmp_path / 'flood.db'}"))
    before, after, held = asyncio.run(crowded(1000, 5, f"sqlite:///{tmp_path / 'crowd.db'}"))
    print(f"start delay, p50: idle {median(idle):.3f} s, beside a flood {median(beside):.3f} s")
    print(f"start delay, p50: before {median(before):.3f} s, beside 1,000 waiting {median(after):.3f} s")
    assert held == 0
    # Behind the flood it would be half a minute; a share of the workers is a matter of one short run.
    assert median(beside) < max(2 * median(idle), 0.5)
    assert median(after) < max(2 * median(before), 0.25)
