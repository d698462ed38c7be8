"""What a stranger is promised of the first run: accepted is stored, even if all processes die next."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import stepping_agents
from tests.fakes.model_server import ModelServer, calls, results_of
from tests.lateness import Lateness
from tests.stack import ROOT, Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

#: Seconds that the interpreter needs to tear down what an agent's module has imported: longer than any worker may.
TEAR_DOWN = 600.0
HEAVY = f"""import atexit, sys, time
from runyard import agent

class Heavy:
    def __del__(self, sleep=time.sleep):
        sleep({TEAR_DOWN})

heavy = Heavy()
atexit.register(lambda: print("the last line of the log", file=sys.__stdout__))

@agent("@test/heavy")
async def use(ctx, args):
    return None
"""


#: An agent of pydantic-ai as its author wrote it, and the one line.
ADAPTED = """from runyard import agent
from runyard.adapters import pydantic_ai
from tests.integration.support_agent import Shop, support

agent("@test/support")(pydantic_ai(support, deps=Shop()))
"""


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("spine")
    (folder / "heavy.py").write_text(HEAVY)
    (folder / "adapted.py").write_text(ADAPTED)
    agents = [*(str(folder / name) for name in ("heavy.py", "adapted.py")), str(stepping_agents.__file__)]
    with Stack(folder, agents=agents, OPENAI_BASE_URL=model.url, OPENAI_API_KEY="sk-test") as running:
        yield running


def test_a_run_goes_from_post_to_completed_through_the_real_parts(stack: Stack) -> None:
    task = stack.run("@demo/echo", {"a": 1}, message="hello")
    assert (task["status"], task["output"]) == ("completed", {"message": "hello", "args": {"a": 1}})


def test_a_run_is_accepted_while_the_broker_is_down_and_completes_after_it_returns(stack: Stack) -> None:
    stack.valkey.kill()
    task_id = stack.submit("@demo/echo", {"while": "down"})
    # No wake-up reaches a worker; one that looks by itself may have it already.
    assert stack.task(task_id)["status"] in ("pending", "running", "completed")
    stack.valkey.start()
    assert stack.until(task_id)["status"] == "completed"


def test_a_wiped_broker_delays_a_run_by_seconds_only(stack: Stack) -> None:
    import redis

    stack.kill("worker-1", signal.SIGSTOP)
    task_id = stack.submit("@demo/echo", {})
    with redis.Redis.from_url(stack.valkey.url) as client:
        client.flushall()
    stack.kill("worker-1", signal.SIGCONT)
    assert stack.until(task_id)["status"] == "completed"


def test_a_run_accepted_just_before_its_api_is_killed_completes_after_the_restart(stack: Stack) -> None:
    task_id = stack.submit("@demo/sleeper", {"seconds": 0.5})
    stack.kill("api-1")
    stack.start("api-1")
    stack.wait_ready()
    assert stack.until(task_id)["status"] == "completed"


def test_a_run_whose_worker_is_killed_goes_on_within_fifteen_seconds_behind_its_last_step(
    stack: Stack, model: ModelServer, tmp_path: Path
) -> None:
    killed, last = threading.Event(), calls(final_result={"order": "A1", "refunded": 0})
    model.answer(calls(lookup={"order": "A1"}), replace(last, hold=killed), last)
    adapted = stack.submit("@test/support", {"message": "Where is A1?"})
    task_id = stack.submit("@test/stepping", {"until": str(tmp_path / "enough")})
    wait_until(lambda: _steps(stack, task_id) >= 2 and len(model.requests) == 2)
    with Lateness() as late:
        stack.kill("worker-1")
        killed.set()
        stack.start("worker-1")
        wait_until(lambda: stack.task(task_id)["attempt"] == 2, seconds=60)
    log = _events(stack, task_id)
    rescue = next(e for e in log if e["type"] == "rescue")
    before = max(e["at"] for e in log if e["seq"] < rescue["seq"])
    (tmp_path / "enough").touch()
    ended = stack.until(task_id)
    assert (ended["status"], ended["output"]) == ("completed", _steps(stack, task_id))
    assert _seconds(rescue["at"]) - _seconds(before) < 15 + late.seconds
    task = stack.until(adapted)
    assert (task["status"], task["output"]) == ("completed", {"order": "A1", "refunded": 0.0}), task["error"]
    # The turn on record is not asked for again; the one that the kill cut off is.
    assert [len(results_of(request)) for request in model.requests] == [0, 1, 1]
    assert (
        [event["type"] for event in _events(stack, adapted)].count("tool_result")
        == task["usage"]["turns"] - 1
        == 1
    )


def test_a_stopped_worker_hands_its_runs_back_in_order_and_ends(stack: Stack, tmp_path: Path) -> None:
    task_id = stack.submit("@test/stepping", {"until": str(tmp_path / "enough")})
    wait_until(lambda: _steps(stack, task_id) >= 1)
    assert stack.end("worker-1") == 0
    assert stack.task(task_id)["status"] in {"pending", "queued"}
    (tmp_path / "enough").touch()
    stack.start("worker-1")
    task = stack.until(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert "release" in [e["type"] for e in _events(stack, task_id)]


def test_a_worker_that_has_drained_ends_at_once_with_its_exit_code_and_its_last_lines(stack: Stack) -> None:
    assert stack.end("worker-1") == 0, "one that is torn down is killed when its grace is over"
    assert "the last line of the log" in (stack.logs / "worker-1.log").read_text()
    stack.start("worker-1")


def _events(stack: Stack, task_id: str) -> list[dict[str, Any]]:
    status, page = stack.request("GET", f"/tasks/{task_id}/events", headers={"accept": "application/json"})
    assert status == 200, page
    return list(page["data"])


def _steps(stack: Stack, task_id: str) -> int:
    return sum(event["type"] == "step" for event in _events(stack, task_id))


def _seconds(at: Any) -> float:
    from datetime import datetime

    return at if isinstance(at, float) else datetime.fromisoformat(str(at)).timestamp()


def test_a_worker_that_cannot_start_logs_why_and_ends_with_a_failure(stack: Stack) -> None:
    command = [sys.executable, "-m", "runyard_workers", "-n", "doomed@%h"]
    env = stack.env | {"RUNYARD_AGENTS": "no.such.module"}
    ended = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode not in (0, -9)
    assert (
        "RUNYARD_AGENTS: there is no module, file or folder 'no.such.module'" in ended.stdout + ended.stderr
    )
