"""The production path: what `compose.yaml` starts, started as processes of this machine with its own settings."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard_launch.supervisor import process
from tests import compose_file
from tests.ports import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
RUNYARD = Path(sys.executable).parent / "runyard"

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]


class Installation:
    """The processes of the file, on servers of the tests."""

    def __init__(self, folder: Path, given: dict[str, str]) -> None:
        self.home, self.port = folder / "home", free_port()
        self.home.mkdir()
        self.given = given | {"RUNYARD_AGENTS": str(ROOT / "examples")}
        self.processes = {}
        for name, service in compose_file.own_services().items():
            env = {k: v for k, v in os.environ.items() if not k.startswith("RUNYARD_")}
            env |= compose_file.environment(service, self.given)
            env |= {
                "RUNYARD_HOME": str(self.home),
                "RUNYARD_PORT": str(self.port),
            }  # as this machine is laid out
            log = folder / f"{name}.log"
            self.processes[name] = process.spawn([RUNYARD, *service["command"]], log=log, env=env, cwd=folder)
            if name == "migrate":  # the others depend on its success
                assert self.processes[name].wait(120) == 0, log.read_text()

    def request(self, path: str, body: Any = None) -> tuple[int, Any]:
        """One call with the admin's key; (0, None) without an answer."""
        key = self.home / "admin.key"
        headers = {"authorization": f"Bearer {key.read_text().strip()}"} if key.exists() else {}
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        asked = urllib.request.Request(url, data, headers | {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=40) as answer:
                return int(answer.status), json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())
        except OSError:
            return 0, None

    def stop(self) -> dict[str, int]:
        """End all as compose does, by one SIGTERM each; their exit codes."""
        for running in self.processes.values():
            running.terminate()
        return {name: running.wait(60) for name, running in self.processes.items()}


@pytest.fixture(
    params=[
        pytest.param("valkey", marks=pytest.mark.chaos),
        pytest.param("rabbitmq", marks=pytest.mark.rabbitmq),
    ]
)
def installation(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_database: Callable[[], str], valkey_url: str
) -> Iterator[Installation]:
    broker = valkey_url if request.param == "valkey" else request.getfixturevalue("rabbitmq_url")
    started = Installation(
        tmp_path,
        {
            "RUNYARD_DATABASE_URL": fresh_database(),
            "RUNYARD_REDIS_URL": valkey_url,
            "RUNYARD_BROKER_URL": broker,
            **dict.fromkeys(compose_file.PASSWORDS, "unused: the addresses have their own"),
        },
    )
    yield started
    started.stop()


def _ended(installation: Installation, task_id: str) -> Any:
    """The task, once it has ended."""
    _, task = installation.request(f"/tasks/{task_id}?wait=20")
    return task if task and task["finished_at"] else None


def test_its_processes_complete_a_run_now_and_one_by_schedule_and_stop_in_order(
    installation: Installation,
) -> None:
    wait_until(lambda: installation.request("/readyz")[0] == 200, seconds=60)
    run = "/api/v1/agents/%40demo%2Fecho/run"
    wait_until(lambda: installation.request(run, {"args": {"first": True}})[0] == 202, seconds=60)
    _, accepted = installation.request(
        run, {"args": {"n": 1}, "schedules": [{"schedule": 1, "message": "later"}]}
    )
    task = wait_until(lambda: _ended(installation, accepted["task_id"]), seconds=60)
    assert (task["status"], task["output"]["args"]) == ("completed", {"n": 1})
    schedule = accepted["schedules"][0]["id"]

    def fired() -> bool:
        _, page = installation.request(f"/api/v1/tasks?schedule_id={schedule}&status=completed")
        return bool(page["data"])

    wait_until(fired, seconds=60)
    began = time.monotonic()
    others = [path for path in installation.home.rglob("*") if path.stat().st_mode & 0o077]
    assert not others, "what the processes write is their user's alone"
    assert installation.stop() == {"migrate": 0, "api": 0, "worker": 0, "scheduler": 0}
    assert time.monotonic() - began < 30  # compose's stop_grace_period
