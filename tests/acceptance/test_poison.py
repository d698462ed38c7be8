"""A run harms only itself: real worker processes beside agents that block, crash, or kill them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kept_worker import KeptWorker
from tests.waiting import wait_until


class Kept(KeptWorker):
    """With neighbours."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "poison_agents", 12)

    def __enter__(self) -> Kept:
        super().__enter__()
        return self

    def neighbours(self, folder: Path) -> list[str]:
        """Innocent runs of both kinds, under way when this returns."""
        sleepers = [self.stack.submit("@poison/sleeper", {"seconds": 4}) for _ in range(3)]
        self.ledgers = [folder / f"ledger-{n}" for n in range(3)]
        steppers = [
            self.stack.submit("@poison/stepper", {"steps": 25, "ledger": str(ledger)})
            for ledger in self.ledgers
        ]
        for task_id in (*sleepers, *steppers):
            self.stack.until(task_id, "running", "completed")
        return [*sleepers, *steppers]

    def assert_unharmed(self, neighbours: list[str]) -> None:
        """They completed, at no cost, and did no step twice."""
        for task_id in neighbours:
            task = self.stack.until(task_id, seconds=120)
            assert task["status"] == "completed", task
            assert task["error"] is None
            assert self.charges(task_id) == []
        for ledger in self.ledgers:
            counts = Counter(line.split()[0] for line in ledger.read_text().splitlines())
            again = {step: count for step, count in counts.items() if count > 1}
            # The step that was open when its process died may have run without being recorded: once a death.
            assert len(again) <= len(self.ends) + 1, again


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with Kept(tmp_path_factory.mktemp("poison")) as running:
        yield running


def _ended(kept: Kept, agent: str, **args: Any) -> dict[str, Any]:
    return kept.stack.until(kept.stack.submit(agent, args), seconds=120)


@pytest.mark.timeout(240)
def test_a_blocked_loop_fails_its_run_at_once_and_its_neighbours_go_on_elsewhere(
    kept: Kept, tmp_path: Path
) -> None:
    kept.settle()
    neighbours = kept.neighbours(tmp_path)
    task = _ended(kept, "@poison/blocks")
    assert task["status"] == "failed"
    assert task["error"]["code"] == "agent_blocked_loop"
    assert task["error"]["cause"] == "agent"
    assert "blocks" in task["error"]["details"]["stack"]
    assert task["attempt"] == 1
    kept.assert_unharmed(neighbours)
    kept.wait_for_end()
    assert kept.ends == [71]


@pytest.mark.timeout(240)
def test_a_loop_that_is_spun_on_past_its_own_timeout_is_ended_too(kept: Kept) -> None:
    kept.settle()
    task = _ended(kept, "@poison/spins")
    kept.wait_for_end()
    assert (task["status"], task["error"]["code"]) == ("failed", "agent_blocked_loop")


@pytest.mark.timeout(240)
def test_a_forked_child_ends_when_it_comes_back_and_takes_no_run_along(kept: Kept, tmp_path: Path) -> None:
    kept.settle()
    worker = kept.stack.processes["worker-1"].pid
    neighbours = kept.neighbours(tmp_path)
    for agent, args in (
        ("@poison/forks", {"how": "exits"}),
        ("@poison/forks", {"how": "returns"}),
        ("@poison/forks_in_thread", {}),
    ):
        assert _ended(kept, agent, **args)["output"] == "parent"
    kept.assert_unharmed(neighbours)
    written = {line.split()[1] for ledger in kept.ledgers for line in ledger.read_text().splitlines()}
    assert written == {str(worker)}, "no step was done in a child"
    assert kept.ends == []
    wait_until(lambda: _children(worker) == [])


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_a_leak_of_file_descriptors_fails_no_neighbour_and_ends_with_its_worker(
    kept: Kept, tmp_path: Path
) -> None:
    kept.settle()
    neighbours = kept.neighbours(tmp_path)
    _ended(kept, "@poison/leaks")
    for _ in range(3):
        task = kept.stack.run("@poison/quick", {}, seconds=60)
        assert (task["status"], task["error"]) == ("completed", None)
    kept.assert_unharmed(neighbours)
    kept.wait_for_end()
    assert set(kept.ends) == {0}, "in order, and not by a crash"


@pytest.mark.timeout(240)
def test_what_an_ended_run_left_behind_does_no_step(kept: Kept, tmp_path: Path) -> None:
    kept.settle()
    assert _ended(kept, "@poison/leaves_behind", ledger=str(tmp_path / "late"))["output"] == "done"
    neighbours = kept.neighbours(tmp_path)
    kept.assert_unharmed(neighbours)
    assert not (tmp_path / "late").exists()


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_native_code_that_keeps_the_interpreters_lock_fails_its_run_alone(kept: Kept, tmp_path: Path) -> None:
    kept.settle()
    neighbours = kept.neighbours(tmp_path)
    task = kept.stack.until(kept.stack.submit("@poison/keeps_lock", {}), seconds=200)
    assert (task["status"], task["error"]["code"]) == ("failed", "process_died")
    assert "keeps the interpreter's lock" in task["error"]["message"]
    kept.assert_unharmed(neighbours)
    kept.wait_for_end()


@pytest.mark.timeout(240)
def test_a_run_that_signals_its_worker_fails_at_once_and_the_worker_stays(kept: Kept, tmp_path: Path) -> None:
    kept.settle()
    neighbours = kept.neighbours(tmp_path)
    for agent in ("@poison/signals", "@poison/signals_in_thread"):
        for how in ("itself", "its group", "its parent", "raised", "its thread", "interrupt"):
            task = _ended(kept, agent, how=how)
            assert (task["status"], task["error"]["code"]) == ("failed", "worker_signalled"), (
                agent,
                how,
                task,
            )
            assert task["attempt"] == 1
    kept.assert_unharmed(neighbours)
    assert kept.ends == []


def _children(parent: int) -> list[int]:
    """Child processes of this one that run the worker's program; those that have ended and wait are none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(owner) == parent and state != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.timeout(320)
def test_runs_that_kill_their_process_fail_alone_and_say_how_it_died(kept: Kept, tmp_path: Path) -> None:
    kept.settle()
    neighbours = kept.neighbours(tmp_path)
    ways = {
        "@poison/exits": {"exit_code": 3},
        "@poison/segfaults": {"signal": 11},
        "@poison/is_killed": {"signal": 9},
    }
    poison = {agent: kept.stack.submit(agent, {}) for agent in ways}
    for agent, task_id in poison.items():
        task = kept.stack.until(task_id, seconds=270)
        assert task["status"] == "failed", task
        assert (task["error"]["code"], task["error"]["cause"]) == ("process_died", "agent")
        assert ways[agent].items() <= task["error"]["details"].items()
        assert task["attempt"] <= 7, "twice in the worker, once for each of the three apart, once alone"
    kept.assert_unharmed(neighbours)
    # Three where they are under way together; where the worker has one at a time, each is there twice alone.
    assert len(kept.ends) <= 2 * len(ways), (
        "the worker itself dies while they are not suspected yet, not after"
    )


@pytest.mark.timeout(240)
def test_a_worker_whose_threads_are_all_held_by_ended_runs_gives_way_to_a_new_one(kept: Kept) -> None:
    kept.settle()
    hanging = [kept.stack.submit("@poison/hangs", {}) for _ in range(12)]
    for task_id in hanging:
        task = kept.stack.until(task_id)
        assert (task["status"], task["error"]["code"]) == ("failed", "timeout")
    assert kept.stack.run("@poison/quick", {}, seconds=60)["output"] == "done"
    kept.wait_for_end()
    assert kept.ends == [0], "it ended in order"


@pytest.mark.timeout(180)
def test_threads_held_by_ended_runs_count_against_the_workers_capacity(kept: Kept) -> None:
    kept.settle()
    hanging = [kept.stack.submit("@poison/hangs", {}) for _ in range(5)]
    for task_id in hanging:
        kept.stack.until(task_id)

    def capacities() -> list[int]:
        _, page = kept.stack.request("GET", "/api/v1/ops/workers")
        return [worker["capacity"] for worker in page["data"] if worker["state"] == "alive"]

    wait_until(lambda: capacities() == [12 - 5], every=0.1)
    assert kept.stack.run("@poison/quick", {})["output"] == "done"
