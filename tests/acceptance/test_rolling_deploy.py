"""Authors deploy while runs are submitted: two workers with different code of one agent, real processes throughout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.runs.rules.suspicion import Suspicion
from runyard_common.settings import Settings
from runyard_launch.supervisor import process
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(240)
AGENT = "@roll/report"
CODE = '''
import os
from runyard import agent

@agent("@roll/report", version="{version}")
async def report(ctx, args):
    """Returns which code ran."""
    count = await ctx.step("count", len, args.get("words", []))
    if args.get("ask"):
        await ctx.ask("Go on?")
    print("ran {version}")
    return {{"code": "{version}", "pid": os.getpid(), "count": count}}
'''


def write(folder: Path, version: str) -> str:
    """A file with the agent's code of a version; its path."""
    folder.mkdir(exist_ok=True)
    file = folder / "report.py"
    file.write_text(CODE.format(version=version))
    return str(file)


def deploy(stack: Stack, name: str, source: str) -> None:
    """Start a worker with this source of agents, and wait until it claims."""
    stack.env["RUNYARD_AGENTS"] = source
    before = lives(stack)
    stack.start(name)
    wait_until(lambda: lives(stack) - before, seconds=90, every=0.1)


def lives(stack: Stack) -> set[str]:
    """The lives of workers that there are."""
    return {row["id"] for row in stack.request("GET", "/api/v1/ops/workers")[1]["data"]}


def submit(stack: Stack, version: str, **args: Any) -> str:
    return stack.submit(AGENT, {"words": ["a", "b"], **args}, version=version)


def check(task: dict[str, Any], version: str) -> None:
    """It was executed by code of its version, at the first attempt and without a retry."""
    assert (task["status"], task["version"], task["error"]) == ("completed", version, None), task
    assert (task["output"]["code"], task["output"]["count"]) == (version, 2)


def events(stack: Stack, task_id: str) -> list[str]:
    _, page = stack.request("GET", f"/tasks/{task_id}/events", headers={"accept": "application/json"})
    return [event["type"] for event in page["data"]]


def test_each_run_is_executed_by_a_worker_with_its_version_and_none_pays(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", "1.0.0"), write(tmp_path / "two", "2.0.0")
    with Stack(tmp_path, workers=0) as stack:
        deploy(stack, "worker-1", one)
        first = [submit(stack, "1.0.0") for _ in range(5)]
        asking = submit(stack, "1.0.0", ask=True)
        stack.until(asking, "waiting_for_input")
        # The next version is published before any worker has it: its runs wait and say why.
        env = stack.env | {"RUNYARD_AGENTS": ""}
        command = [str(Path(sys.executable).parent / "runyard"), "agents", "publish", two]
        published = process.spawn(command, log=stack.logs / "publish.log", env=env, cwd=tmp_path)
        assert published.wait(120) == 0, (stack.logs / "publish.log").read_text()
        early = [submit(stack, "2.0.0") for _ in range(3)]
        for task_id in first:
            check(stack.until(task_id), "1.0.0")
        waiting = stack.task(early[0])
        assert (waiting["status"], waiting["attempt"]) == ("pending", 0)
        assert "no worker has this agent" in waiting["queue"]["basis"]
        # Both versions side by side.
        deploy(stack, "worker-2", two)
        mixed = [(version, submit(stack, version)) for _ in range(10) for version in ("1.0.0", "2.0.0")]
        for version, task_id in [*mixed, *(("2.0.0", task_id) for task_id in early)]:
            check(stack.until(task_id), version)
        assert stack.run(AGENT, {"words": ["a", "b"]})["version"] == "2.0.0"
        # The old worker leaves; a run of its code that waits for a person waits for its code, too.
        assert stack.end("worker-1") == 0
        status, _ = stack.request("POST", f"/tasks/{asking}/message", {"message": "yes"})
        assert status < 300
        late = submit(stack, "2.0.0")
        check(stack.until(late), "2.0.0")
        stack.until(asking, "pending")
        wait_until(lambda: (stack.task(asking).get("queue") or {}).get("limit") == "worker")
        deploy(stack, "worker-3", one)
        check(stack.until(asking), "1.0.0")
        everything = [*first, *early, *(task_id for _, task_id in mixed), late, asking]
        for task_id in everything:
            assert {"retry", "fail", "release", "rescue"}.isdisjoint(events(stack, task_id))
        # What the code printed is in its run, and in the worker's log.
        assert "log" in events(stack, late)
        assert "ran 2.0.0" in (stack.logs / "worker-2.log").read_text()


def current(stack: Stack) -> str:
    """The version that a run gets which asks for none: it is executed by it, too."""
    return str(stack.run(AGENT, {"words": ["a", "b"]})["output"]["code"])


def current_version(stack: Stack) -> str:
    """The version that a run which asks for none is bound to; it is cancelled, where it has not ended by then."""
    task_id = stack.submit(AGENT, {"words": ["a", "b"]})
    found = str(stack.task(task_id)["version"])
    assert stack.request("POST", f"/tasks/{task_id}/cancel")[0] in (200, 202, 409)
    return found


def test_the_newest_version_that_a_worker_has_is_current_whichever_worker_starts_last(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", "1.0.0"), write(tmp_path / "two", "2.0.0")
    with Stack(tmp_path, workers=0) as stack:
        deploy(stack, "worker-1", one)
        assert current(stack) == "1.0.0"
        deploy(stack, "worker-2", two)
        assert current(stack) == "2.0.0"
        # In the middle of the deploy the old worker is started again, after a crash and in order.
        stack.kill("worker-1")
        deploy(stack, "worker-1", one)
        assert [current(stack) for _ in range(5)] == ["2.0.0"] * 5
        assert stack.end("worker-1") == 0
        deploy(stack, "worker-1", one)
        assert [current(stack) for _ in range(5)] == ["2.0.0"] * 5
        # Rolled back: the new worker leaves, and no run waits for it.
        assert stack.end("worker-2") == 0
        assert [current(stack) for _ in range(5)] == ["1.0.0"] * 5
        deploy(stack, "worker-2", two)
        assert current(stack) == "2.0.0"
        # Rolled back without a goodbye: the lease runs out, and what took the new version shows what it waits for.
        stack.kill("worker-2")
        left_behind = submit(stack, "2.0.0")
        wait_until(lambda: current_version(stack) == "1.0.0", seconds=90, every=0.1)
        assert [current(stack) for _ in range(5)] == ["1.0.0"] * 5
        wait_until(lambda: stack.task(left_behind).get("queue"))
        waiting = stack.task(left_behind)
        assert waiting["queue"]["limit"] == "worker"
        why = "no worker has this agent (@roll/report 2.0.0), workers have 1.0.0: start a worker"
        assert why in waiting["queue"]["basis"]
        assert why in waiting["message"]
        # All at once: the old workers go before the new ones come.
        assert stack.end("worker-1") == 0
        assert current_version(stack) == "1.0.0"
        deploy(stack, "worker-2", two)
        assert current(stack) == "2.0.0"
        check(stack.until(left_behind), "2.0.0")


def test_a_run_in_a_quarantine_process_keeps_what_it_printed_and_how_it_failed(tmp_path: Path) -> None:
    source = write(tmp_path / "one", "1.0.0")
    with Stack(tmp_path, workers=0) as stack:
        deploy(stack, "worker-1", source)
        assert stack.end("worker-1") == 0
        fine, broken = submit(stack, "1.0.0"), stack.submit(AGENT, {"words": 5}, version="1.0.0")
        db = Database(Settings(home=stack.home).database)
        with Store(db).begin() as tx:
            tx.conn.execute(
                text("UPDATE tasks SET suspicion = :suspect"), {"suspect": int(Suspicion.SUSPECT)}
            )
        db.close()
        deploy(stack, "worker-2", source)
        check(stack.until(fine, seconds=60), "1.0.0")
        _, page = stack.request("GET", f"/tasks/{fine}/events", headers={"accept": "application/json"})
        (printed,) = [event["data"] for event in page["data"] if event["type"] == "log"]
        assert (printed["level"], printed["message"], printed["source"]) == ("info", "ran 1.0.0", "stdout")
        failed = stack.until(broken, seconds=60)
        assert failed["error"]["code"] == "agent_error"
        assert f'File "{source}"' in failed["error"]["details"]["traceback"]
        log = stack.logs / "worker-2.log"
        for line in ("ran 1.0.0", "An agent's code failed"):
            wait_until(lambda: line in log.read_text())  # noqa: B023 - called at once
