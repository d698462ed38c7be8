"""The harness of `make bench`: a subject that loses or repeats runs gives no figure."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks import bench_peers
from tests.benchmarks.environments import REQUIREMENTS
from tests.benchmarks.figures import Broken, figures, goals, parse, percentile, tables
from tests.benchmarks.measures import GOALS, MEASURES, STAGES
from tests.benchmarks.peers import usage
from tests.benchmarks.peers.load import LEAST_SAMPLES
from tests.benchmarks.plot import svg
from tests.benchmarks.program import Program
from tests.benchmarks.subjects import SUBJECTS

LABELS = {"runyard-postgres": "Runyard", "saq": "saq & others", "dbos": "DBOS"}
ROUNDS = {
    "runyard-postgres": {"throughput": [300.0, 400.0, 500.0], "latency": [2.0, 3.0, 4.0]},
    "saq": {"throughput": [200.0, 200.0, 200.0], "latency": [1.0, 1.5, 9.0]},
    "dbos": {"throughput": [100.0], "round_trips": [12.0]},
}
STUB = """
from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.peer import Peer

class Stub(Peer):
    packages = ("redis",)

    async def start(self):
        print("what a library prints is no report")
        self.spawn("-c", "import time; time.sleep(60)")

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
    assert figures(
        {
            "throughput": {"ended": 100, "seconds": 0.5, "cpu": 0.2, "client_cpu": 0.05, "servers_cpu": 0.1},
            "latency": {"seconds": [0.001, 0.002, 0.009]},
            "accept": {"ended": 100, "seconds": [0.004] * 98 + [0.02] * 2, "cpu": 0.3},
            "waits": {"ended": 1000, "seconds": 2.5, "peak_mib": 320.0},
            "memory": {"memory_mib": 250.0, "resident_mib": 300.0},
            "reads": {"ended": 1000, "seconds": 0.5},
            "two_workers": {"ended": 100, "seconds": 0.25},
            "round_trips": {"ended": 10, "trips": 45.0},
        }
    ) == pytest.approx(
        {
            "throughput": 200,
            "cpu_saturated": 2,
            "client_cpu": 0.5,
            "servers_cpu": 1,
            "latency": 2,
            "accept_p50": 4,
            "accept_p99": 20,
            "cpu_steady": 3,
            "waits": 2.5,
            "waits_memory": 20.48,
            "memory": 250,
            "reads": 2000,
            "two_workers": 400,
            "round_trips": 4.5,
        }
    )


def test_what_this_machine_cannot_show_is_missing() -> None:
    assert figures({"throughput": {"ended": 100, "seconds": 0.5}, "memory": {}}) == {"throughput": 200}


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.75, 3), (0.99, 4), (0.0, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert percentile([4, 1, 3, 2], share) == value


def test_the_tables_have_ratios_first_then_median_and_spread_and_a_dash_for_what_is_missing() -> None:
    runs, trips = tables(ROUNDS, LABELS).split("\n\n**Reads, trips and workers**\n\n")
    ours, theirs, one_round = runs.splitlines()[4:]
    assert ours == "| Runyard | 400 (300–500) | 3.0 (2.0–4.0) |"
    assert theirs == "| saq & others | **2.00** · 200 (200–200) | **2.00** · 1.5 (1.0–9.0) |"
    assert one_round == "| DBOS | **4.00** · 100 | – |"
    assert trips.splitlines()[2:] == ["| DBOS | 12.0 |"]


def test_aims_are_shown_beside_what_was_reached_of_what_was_measured() -> None:
    saq = {"throughput": [200.0], "waits": [2.0]}
    taskiq = {"throughput": [500.0], "waits": [4.0]}
    runyard = {"throughput": [400.0], "waits": [3.0], "round_trips": [45.0]}
    assert goals({"runyard-postgres": runyard, "saq": saq, "taskiq": taskiq}).splitlines()[2:] == [
        "| runs/s to the best of saq, arq, taskiq | 0.80 | ≥ 1.3 |",
        "| round trips to PostgreSQL a run | 45.0 | ≤ 5 |",
        "| 1,000 waits of a second to the best of arq, saq, taskiq | 1.50 | ≤ 0.75 |",
    ]


def test_every_aim_names_measures_and_subjects_that_there_are() -> None:
    subjects, measures = {subject.name for subject in SUBJECTS}, {measure.name for measure in MEASURES}
    for goal in GOALS:
        for name, measure in (goal.ours, *goal.others):
            assert name in subjects
            assert measure in measures
    assert {measure.stage for measure in MEASURES} == set(STAGES)
    assert {stage for subject in SUBJECTS for stage in subject.stages} == set(STAGES)


@pytest.mark.parametrize("option", ["--only", "--measures"])
def test_an_unknown_subject_or_stage_is_refused_with_those_that_there_are(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_peers", option, "saq,latency"])
    with pytest.raises(SystemExit, match=r"no such name: (saq|latency); there are .*(saq|latency)"):
        bench_peers.main()


def test_earlier_reports_are_shown_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"runyard-postgres": {"throughput": [400.0]}, "saq": {"throughput": [100.0], "waits": [2.0]}}
    for name, rounds in (("a", first), ("b", {"saq": {"throughput": [200.0]}})):
        (tmp_path / name).write_text(json.dumps({"rounds": rounds}))
    files = [str(tmp_path / name) for name in ("a", "b")]
    monkeypatch.setattr(sys, "argv", ["bench_peers", "--out", str(tmp_path / "c.json"), "--show", *files])
    assert bench_peers.main() == 0
    assert "| saq | **2.00** · 200 | 2.0 |" in capsys.readouterr().out
    assert (tmp_path / "c.svg").exists()


def test_the_plot_is_xml_with_a_bar_for_each_figure() -> None:
    root = ElementTree.fromstring(svg(ROUNDS, LABELS))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x")]
    assert len(bars) == 5
    assert all(float(bar.get("x", 0)) + float(bar.get("width", 0)) < 760 for bar in bars)


def test_every_subject_has_its_program_and_every_package_of_a_peer_is_pinned() -> None:
    for subject in SUBJECTS:
        assert (REQUIREMENTS.parent / f"{subject.program}.py").exists()
        assert bool(subject.environment) == (subject.program != "runyard")
    environments = {subject.environment for subject in SUBJECTS} - {""}
    assert {file.stem for file in REQUIREMENTS.iterdir()} == environments
    for name in environments:
        lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        assert lines
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
        latency = running.report("latency", samples=2, limit=5)
        accept = running.report("accept", rate=100, duration=0.1)
    assert first["versions"]["redis"]
    assert (throughput["ended"], len(latency["seconds"]), len(accept["seconds"])) == (20, 2, 10)
    assert throughput["client_cpu"] > 0


@pytest.mark.processes
def test_a_program_takes_fewer_samples_where_they_take_too_long(tmp_path: Path) -> None:
    with program(tmp_path, "site.mark()") as running:
        running.report("prepare")
        assert running.report("latency", samples=1000, limit=0)["ended"] == LEAST_SAMPLES


@pytest.mark.processes
def test_a_program_submits_fewer_runs_where_they_take_too_long(tmp_path: Path) -> None:
    with program(tmp_path, "site.mark(); import time; time.sleep(0.01)") as running:
        running.report("prepare")
        found = running.report("throughput", runs=1000, connections=1, limit=0.1)
    assert 1 <= found["ended"] < 50


@pytest.mark.processes
@pytest.mark.skipif(not usage.AVAILABLE, reason="Linux's /proc shows it")
def test_a_program_reports_what_its_processes_use(tmp_path: Path) -> None:
    with program(tmp_path, "site.mark()") as running:
        running.report("prepare")
        assert running.report("rest", seconds=0.1)["memory_mib"] > 1
        assert running.report("throughput", runs=20, connections=4)["cpu"] >= 0
        assert running.report("waits", runs=20, connections=4)["peak_mib"] > 1


@pytest.mark.skipif(not usage.AVAILABLE, reason="Linux's /proc shows it")
def test_what_this_process_used_is_read_from_proc() -> None:
    before, me = usage.cpu([os.getpid()]), [os.getpid()]
    while time.process_time() and usage.cpu(me) < before + 0.05:
        continue
    assert os.getpid() in usage.tree([os.getppid()])
    assert usage.memory(me) > 0
    assert usage.resident(me) <= usage.peak(me)
    assert usage.cpu([0]) == usage.memory([0]) == 0


@pytest.mark.processes
@pytest.mark.parametrize(
    ("submit", "why"), [("site.mark(); site.mark()", "runs 200 started"), ("1 / 0", "ZeroDivisionError")]
)
def test_a_program_that_repeats_runs_or_fails_is_broken(tmp_path: Path, submit: str, why: str) -> None:
    with program(tmp_path, submit) as running, pytest.raises(Broken, match=why):
        running.report("prepare")
