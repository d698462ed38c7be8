"""Isolation by declaration: poison in a process of its own ends its own run alone, and at once; real workers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runyard_workers.attempts.isolated import GRACE_SECONDS
from tests.kept_worker import KeptWorker
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptWorker]:
    with KeptWorker(tmp_path_factory.mktemp("isolation"), "isolation_agents", 32) as running:
        yield running


def _processes(worker: int) -> set[int]:
    """The child processes of a worker that run agents."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                program = (entry / "cmdline").read_text()
            except OSError:
                continue
            if int(owner) == worker and state != "Z" and "runyard_workers.processes.child" in program:
                found.add(int(entry.name))
    return found


def _is_gone(pid: int) -> bool:
    """Whether a process has ended; what has to reap it may take its time."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _neighbours(kept: KeptWorker, steps: int) -> list[str]:
    """Twenty innocent runs of all three kinds, under way when this returns."""
    kinds = {"on_loop": 8, "in_thread": 8, "in_process": 4}
    ids = [
        kept.stack.submit(f"@isolation/neighbour_{kind}", {"steps": steps})
        for kind, count in kinds.items()
        for _ in range(count)
    ]
    for task_id in ids:
        wait_until(partial(_has_begun, kept, task_id), seconds=60)
    return ids


def _has_begun(kept: KeptWorker, task_id: str) -> bool:
    return _steps(kept, task_id) > 0 or kept.stack.task(task_id)["finished_at"] is not None


def _events(kept: KeptWorker, task_id: str) -> list[dict[str, Any]]:
    _, page = kept.stack.request("GET", f"/tasks/{task_id}/events", headers={"accept": "application/json"})
    return list(page["data"])


def _steps(kept: KeptWorker, task_id: str) -> int:
    return sum(event["type"] == "step" for event in _events(kept, task_id))


def _assert_unharmed(kept: KeptWorker, neighbours: list[str], attempt: int | None = 1) -> None:
    for task_id in neighbours:
        task = kept.stack.until(task_id, seconds=120)
        assert (task["status"], task["error"]) == ("completed", None), task
        assert attempt is None or task["attempt"] == attempt
        assert kept.charges(task_id) == []


def _begun(kept: KeptWorker, agent: str, way: str) -> str:
    task_id = kept.stack.submit(agent, {"way": way})
    wait_until(lambda: any(event["type"] == "log" for event in _events(kept, task_id)), seconds=40)
    return task_id


@pytest.mark.timeout(180)
def test_poison_in_a_process_ends_its_own_run_alone_with_its_cause(kept: KeptWorker) -> None:
    kept.settle()
    worker = kept.pid
    neighbours = _neighbours(kept, steps=40)
    ways: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
        ("@isolation/in_process", "segfault"): ("process_crashed", {"signal": 11}),
        ("@isolation/on_own_loop", "segfault"): ("process_crashed", {"signal": 11}),
        ("@isolation/in_process", "exit"): ("process_crashed", {"exit_code": 3}),
        ("@isolation/limited", "eat"): ("memory_limit", {"memory_mb": 200}),
        ("@isolation/limited", "eat in a child"): ("memory_limit", {"memory_mb": 200}),
        ("@isolation/limited", "spin"): ("cpu_limit", {"cpu_seconds": 2}),
        ("@isolation/late", "spin"): ("timeout", {}),
    }
    poison = {kept.stack.submit(agent, {"way": way}): expected for (agent, way), expected in ways.items()}
    for task_id, (code, details) in poison.items():
        task = kept.stack.until(task_id, seconds=90)
        error = task["error"]
        assert (task["status"], error["code"], task["attempt"]) == ("failed", code, 1), task
        assert error["cause"] == ("deadline" if code == "timeout" else "agent")
        assert details.items() <= error.get("details", {}).items()
        if details == {"signal": 11}:
            assert "isolation_agents.py" in error["details"]["traceback"], "where it crashed"
    _assert_unharmed(kept, neighbours)
    assert kept.ends == []
    assert kept.pid == worker


@pytest.mark.parametrize("agent", ["@isolation/in_process", "@isolation/on_own_loop"])
@pytest.mark.timeout(180)
def test_a_process_in_an_endless_loop_is_gone_soon_after_its_run_is_cancelled(
    kept: KeptWorker, agent: str
) -> None:
    kept.settle()
    idle = _processes(kept.pid)
    task_id = _begun(kept, agent, "spin")
    (spinning,) = _processes(kept.pid) - idle
    status, _ = kept.stack.request("POST", f"/tasks/{task_id}/cancel")
    assert status < 300
    wait_until(lambda: _is_gone(spinning), seconds=45)
    assert kept.stack.until(task_id)["status"] == "stopped"
    assert GRACE_SECONDS <= 1.0, "the way of the order comes on top: two seconds in all (see bench_isolation)"


@pytest.mark.timeout(180)
def test_a_process_ends_with_its_worker_and_its_run_goes_on_elsewhere(
    kept: KeptWorker, tmp_path: Path
) -> None:
    kept.settle()
    worker = kept.pid
    task_id = kept.stack.submit(
        "@isolation/neighbour_in_process", {"steps": 3, "until": str(tmp_path / "enough")}
    )
    wait_until(lambda: _steps(kept, task_id) > 2)
    children = _processes(worker)
    assert children
    kept.stack.kill("worker-1")
    wait_until(lambda: all(map(_is_gone, children)))
    (tmp_path / "enough").touch()
    task = kept.stack.until(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert len(set(task["output"])) == 2, "steps of the first process are not repeated"


@pytest.mark.timeout(180)
def test_a_worker_that_drains_hands_on_what_runs_in_its_processes(kept: KeptWorker, tmp_path: Path) -> None:
    kept.settle()
    task_id = kept.stack.submit(
        "@isolation/neighbour_in_process", {"steps": 3, "until": str(tmp_path / "enough")}
    )
    wait_until(lambda: _steps(kept, task_id) > 2)
    children = _processes(kept.pid)
    kept.stack.processes["worker-1"].terminate()
    wait_until(lambda: kept.ends == [0])
    wait_until(lambda: all(map(_is_gone, children)))
    (tmp_path / "enough").touch()
    task = kept.stack.until(task_id)
    assert (task["status"], task["attempt"], kept.charges(task_id)) == ("completed", 2, [])


@pytest.mark.timeout(320)
def test_the_same_poison_in_threads_and_on_the_loop_fails_no_neighbour(kept: KeptWorker) -> None:
    kept.settle()
    neighbours = _neighbours(kept, steps=30)
    poison = [
        kept.stack.submit("@isolation/on_loop", {"way": "spin"}),
        kept.stack.submit("@isolation/in_thread", {"way": "segfault"}),
    ]
    for task_id in poison:
        task = kept.stack.until(task_id, seconds=240)
        assert (task["status"], task["error"]["cause"]) == ("failed", "agent"), task
    _assert_unharmed(kept, neighbours, attempt=None)
