"""Prometheus itself scrapes real processes, and every query of the dashboards and alerts gives something."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.servers.prometheus import Prometheus
from tests.stack import Stack
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
AGENTS = """
from runyard import Context, ModelTurn, agent

@agent("@test/thinker", version="1.0.0")
async def thinker(ctx: Context, args: dict) -> str:
    turn = lambda: ModelTurn("done", "a-model", input_tokens=50, output_tokens=5, cached_tokens=10, cost=0.01)
    return await ctx.model_turn("think", turn)
"""

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if "prometheus" in os.environ.get("TEST_WITHOUT", "").split(","):
        pytest.skip("TEST_WITHOUT=prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    source = folder / "agents_of_metrics.py"
    source.write_text(AGENTS)
    with Stack(folder, agents=[str(source)], RUNYARD_METRICS_PORT="auto") as stack:
        yield stack


@pytest.fixture(scope="module")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Prometheus(tmp_path_factory.mktemp("data"), stack.home / "metrics") as prometheus:
        yield prometheus


def queries() -> Iterator[tuple[str, str]]:
    """Each query of the dashboards, with what it is of."""
    for file in sorted((ROOT / "deploy/grafana").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}", target["expr"]


def test_every_panel_of_the_dashboards_has_data_from_real_processes(
    stack: Stack, prometheus: Prometheus
) -> None:
    wait_until(lambda: prometheus.components() == {"api", "worker", "scheduler"}, seconds=60)
    body = {"args": {"late": True}, "schedules": [{"schedule": 1, "message": "later"}]}
    assert stack.request("POST", "/api/v1/agents/%40demo%2Fecho/run", body)[0] == 202
    for _ in range(3):
        assert stack.run("@test/thinker", {}, seconds=60)["status"] == "completed"
    failed = stack.run("@demo/failer", {}, seconds=60)
    assert failed["status"] == "failed"
    counted = (
        'sum(runyard_run_events_total{event="finish"}) >= 5 and sum(runyard_schedule_occurrences_total) >= 1'
    )
    wait_until(lambda: prometheus.ask(counted), seconds=60)  # of both echoes: none is claimed from here on

    def empty() -> list[str]:
        ranges = (("$__rate_interval", "30s"), ("$__range", "1m"))
        return [where for where, query in queries() if not prometheus.ask(_within(query, ranges))]

    wait_until(lambda: empty() == [], seconds=60, every=1.0)
    (cost,) = prometheus.ask('sum(runyard_model_cost_usd_total{model="a-model"})')
    assert float(cost["value"][1]) == pytest.approx(0.03)
    (failures,) = prometheus.ask("sum(runyard_run_failures_total)")
    assert float(failures["value"][1]) == 1
    # One process's figures are not another's: each change was counted once.
    (claims,) = prometheus.ask('sum(runyard_run_events_total{event="claim"})')
    attempts = sum(
        stack.task(t["task_id"])["attempt"]
        for t in stack.request("GET", "/api/v1/tasks?limit=100")[1]["data"]
    )
    assert float(claims["value"][1]) == attempts


def test_every_alert_is_computed_and_none_rings_on_an_installation_that_works(prometheus: Prometheus) -> None:
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    written = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    assert len(rules) == len(written)
    wait_until(
        lambda: all(r["health"] == "ok" for g in prometheus.get("rules")["groups"] for r in g["rules"]),
        seconds=60,
    )
    ringing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert not ringing - {
        "RunyardRunsFail",
        "RunyardEventLoopLate",
    }  # a run was made to fail; the machine may be busy


def _within(query: str, ranges: tuple[tuple[str, str], ...]) -> str:
    for name, seconds in ranges:
        query = query.replace(name, seconds)
    return query
