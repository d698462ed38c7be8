"""The short forms of `make chaos`: real processes struck while runs of every kind go on, then the verdict."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from runyard_common.settings import Settings
from tests.benchmarks.bench_fairness import crowded, flooded
from tests.chaos.ledger import Ledger
from tests.chaos.plans import PLANS
from tests.chaos.storm import run
from tests.stack import Stack

#: What a worker has when no setting gives another, in seconds.
LEASE: float = Settings.model_fields["lease_seconds"].default


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("database", "broker"),
    [
        pytest.param("sqlite", "valkey", marks=pytest.mark.chaos),
        pytest.param("postgres", "rabbitmq", marks=[pytest.mark.postgres, pytest.mark.rabbitmq]),
    ],
)
def test_nothing_is_lost_or_done_twice_while_processes_are_killed(database: str, broker: str) -> None:
    plan = PLANS["killed"]
    verdict = run(replace(plan, shape=replace(plan.shape, database=database, broker=broker)))
    print(verdict)
    assert verdict.clean, str(verdict)
    assert verdict.statuses.keys() == {"completed"}, str(verdict)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        "poisoned",
        pytest.param("deadly", marks=pytest.mark.chaos),
        pytest.param("claim-crashed", marks=[pytest.mark.chaos, pytest.mark.postgres]),
        pytest.param("failed-over", marks=[pytest.mark.chaos, pytest.mark.postgres]),
        pytest.param("deployed", marks=[pytest.mark.chaos, pytest.mark.postgres]),
        pytest.param("suspended", marks=[pytest.mark.chaos, pytest.mark.postgres]),
        pytest.param("row-lost", marks=[pytest.mark.chaos, pytest.mark.postgres]),
    ],
)
def test_every_promise_holds_in_a_storm_tuned_to_it(name: str) -> None:
    verdict = run(PLANS[name])
    print(verdict)
    assert verdict.clean, str(verdict)


@pytest.mark.timeout(240)
def test_a_handler_that_blocks_for_two_leases_on_a_healthy_worker_runs_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    agents = ["tests.chaos.agents"]
    with Stack(tmp_path, agents=agents, CHAOS_LEDGER=str(ledger)) as stack:
        task = stack.run("@chaos/blocker", {"seconds": 2 * LEASE}, seconds=90)
        assert (task["status"], task["attempt"]) == ("completed", 1)
    assert len(Ledger(ledger).lives()[task["task_id"]]) == 1


@pytest.mark.timeout(180)
def test_a_neighbours_flood_and_a_crowd_that_waits_delay_no_other_run(tmp_path: Path) -> None:
    idle, loaded, overtaken = asyncio.run(flooded(600, 5, 0.1, f"sqlite:///{tmp_path / 'flood.db'}"))
    before, after, slots = asyncio.run(crowded(1000, 5, f"sqlite:///{tmp_path / 'crowd.db'}"))
    print(f"start delay, p50: idle {median(idle):.3f} s, loaded a flood {median(loaded):.3f} s")
    print(f"start delay, p50: before {median(before):.3f} s, loaded 1,000 waiting {median(after):.3f} s")
    assert slots == 0
    # Behind the flood it would be hundreds; the claims that were under way when it came are of twenty each.
    assert max(overtaken) <= 60, overtaken
    assert median(after) < 2 * median(before) + 1.0
