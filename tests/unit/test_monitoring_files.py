"""deploy/grafana and deploy/prometheus: what they ask for is there, and what rings is explained."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runyard_common.metrics import families
from runyard_common.metrics.installation import BY, PLAIN, PREFIX
from tests.servers.prometheus import program

ROOT = Path(__file__).parents[2]
GRAFANA, PROMETHEUS = ROOT / "deploy/grafana", ROOT / "deploy/prometheus"
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
GUIDE = (ROOT / "docs/observability.md").read_text()
#: Of every process, by the library.
OF_LIBRARY = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
}


def exposed() -> set[str]:
    """The names of the series that processes show."""
    names = {PREFIX + name for name in (*PLAIN, *BY)} | OF_LIBRARY
    for family in families.FAMILIES:
        (described,) = family.metric.describe()
        ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {described.name + end for end in ends[described.type]}
    return names


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(GRAFANA.glob("*.json"))]


def queries() -> Iterator[str]:
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            yield from (target["expr"] for target in panel["targets"])
    yield from (rule["expr"] for rule in RULES)


@pytest.mark.documents
def test_the_dashboards_are_as_they_are_written() -> None:
    checked = subprocess.run([sys.executable, ROOT / "tools/dashboards.py", "--check"], check=False)
    assert checked.returncode == 0, "run: tools/dashboards.py"


def test_every_query_asks_for_metrics_that_processes_show() -> None:
    known, asked = exposed(), set()
    for query in queries():
        names = set(re.findall(r"\b(?:runyard|process)_[a-z_]+", re.sub(r'"[^"]*"', "", query)))
        assert names or query.startswith("up{"), query
        asked |= names
    assert asked <= known, f"no process shows {sorted(asked - known)}"


def test_every_dashboard_can_be_imported() -> None:
    assert len(dashboards()) == 4
    assert len({dashboard["uid"] for dashboard in dashboards()}) == 4
    for dashboard in dashboards():
        assert [one["type"] for one in dashboard["templating"]["list"]] == ["datasource"]
        covered: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & covered, f"{panel['title']} lies over another panel"
            assert at["x"] + at["w"] <= 24
            assert panel["title"]
            assert panel["datasource"]["uid"] == "${source}"
            covered |= cells


def test_every_alert_has_a_paragraph_on_what_to_do() -> None:
    for rule in RULES:
        assert f"\n### {rule['alert']}\n" in GUIDE, f"docs/observability.md does not explain {rule['alert']}"
        assert rule["annotations"]["runbook_url"] == f"docs/observability.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
    explained = set(re.findall(r"^### (Runyard\w+)$", GUIDE, re.MULTILINE))
    assert explained == {rule["alert"] for rule in RULES}


def test_every_alert_is_tried_on_an_input_that_rings_and_on_one_that_does_not() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    tried = [
        (re.findall(r'alertname="(\w+)"', one["expr"])[0], bool(one["exp_samples"]))
        for test in tests
        for one in test["promql_expr_test"]
    ]
    assert sorted(tried) == sorted((rule["alert"], rings) for rule in RULES for rings in (True, False))


@pytest.mark.processes
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
)
def test_promtool_finds_nothing_wrong(command: tuple[str, ...]) -> None:
    if "prometheus" in os.environ.get("TEST_WITHOUT", "").split(","):
        pytest.skip("TEST_WITHOUT=prometheus")
    *words, file = command
    done = subprocess.run(
        [program("promtool"), *words, PROMETHEUS / file],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
