"""The harness of `make bench`: a subject that loses or repeats runs gives no figure."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.figures import Broken, figures, parse, percentile, table
from tests.benchmarks.plot import svg
from tests.benchmarks.subjects import REQUIREMENTS, SUBJECTS, Program

LABELS = {"runyard-postgres": "Runyard", "saq": "saq & others"}
ROUNDS = {
    "runyard-postgres": {"throughput": [300.0, 400.0, 500.0], "latency": [2.0, 3.0, 4.0]},
    "saq": {"throughput": [200.0, 200.0, 200.0], "latency": [1.0, 1.5, 9.0]},
}
STUB = """
from tests.benchmarks.peers import driver, site

class Stub(driver.Peer):
    packages = ("redis",)

    async def start(self):
        print("what a library prints is no report")

    async def submit(self, seconds):
        {submit}

driver.main(Stub)
"""


def test_a_report_of_all_runs_is_parsed() -> None:
    report = {"submitted": 10, "started": 10, "ended": 10, "seconds": 0.5}
    assert parse(json.dumps(report).encode()) == report


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "no report"),
        (b"Traceback", "no report, but"),
        (b'{"error": "ConnectionError: refused"}', "refused"),
        (b'{"submitted": 10, "started": 9, "ended": 10}', "of 10 runs 9 started"),
        (b'{"submitted": 10, "started": 11, "ended": 10}', "of 10 runs 11 started"),
        (b'{"submitted": 10, "started": 10, "ended": 8}', "8 ended"),
        (b'{"submitted": 0, "started": 0, "ended": 0}', "of 0 runs"),
        (b"{}", "of None runs"),
    ],
)
def test_a_subject_without_all_its_runs_is_broken(line: bytes, why: str) -> None:
    with pytest.raises(Broken, match=why):
        parse(line)


def test_figures_are_in_the_units_of_their_measures() -> None:
    found = figures(
        {"ended": 100, "seconds": 0.5},
        {"seconds": [0.001, 0.002, 0.009]},
        {"seconds": [0.004] * 98 + [0.02] * 2},
    )
    assert found == {"throughput": 200, "latency": 2, "accept_p50": 4, "accept_p99": 20}


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.75, 3), (0.99, 4), (0.0, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert percentile([4, 1, 3, 2], share) == value


def test_the_table_has_ratios_first_then_median_and_spread() -> None:
    ours, theirs = table(ROUNDS, LABELS).splitlines()[2:]
    assert ours == "| Runyard | 400 (300–500) | 3.0 (2.0–4.0) |"
    assert theirs == "| saq & others | **2.00** · 200 (200–200) | **2.00** · 1.5 (1.0–9.0) |"


def test_the_plot_is_xml_with_a_bar_for_each_figure() -> None:
    root = ElementTree.fromstring(svg(ROUNDS, LABELS))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x")]
    assert len(bars) == 4
    assert all(float(bar.get("x", 0)) + float(bar.get("width", 0)) < 760 for bar in bars)


def test_every_subject_has_its_program_and_every_package_of_a_peer_is_pinned() -> None:
    for program in {subject.program for subject in SUBJECTS}:
        assert (REQUIREMENTS.parent / f"{program}.py").exists()
        pins = REQUIREMENTS / f"{program}.txt"
        lines = pins.read_text().splitlines() if pins.exists() else []
        assert program == "runyard" or lines
        assert [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==\S+( ; .+)?", line)] == []


def program(tmp_path: Path, submit: str) -> Program:
    script = tmp_path / "stub.py"
    script.write_text(STUB.format(submit=submit))
    return Program([sys.executable, str(script)], tmp_path / "stub", BENCH_SLOTS="1")


@pytest.mark.processes
def test_a_program_reports_its_versions_counts_and_times(tmp_path: Path) -> None:
    with program(tmp_path, "site.mark()") as running:
        first = running.report("prepare")
        throughput = running.report("throughput", runs=20, connections=4)
        latency = running.report("latency", samples=2)
        accept = running.report("accept", rate=100, duration=0.1)
    assert first["versions"]["redis"]
    assert (throughput["ended"], len(latency["seconds"]), len(accept["seconds"])) == (20, 2, 10)
    assert set(figures(throughput, latency, accept)) == {"throughput", "latency", "accept_p50", "accept_p99"}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("submit", "why"), [("site.mark(); site.mark()", "runs 200 started"), ("1 / 0", "ZeroDivisionError")]
)
def test_a_program_that_repeats_runs_or_fails_is_broken(tmp_path: Path, submit: str, why: str) -> None:
    with program(tmp_path, submit) as running, pytest.raises(Broken, match=why):
        running.report("prepare")
