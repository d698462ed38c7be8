"""The api as a process: it starts with one clear sentence or serves, and stops within its grace period."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard_launch.supervisor import process
from tests.lateness import Lateness
from tests.ports import free_port
from tests.stack import PYTHONPATH, ROOT
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


def start(home: Path, port: int, **settings: str) -> subprocess.Popen[bytes]:
    env = (
        os.environ
        | {"RUNYARD_HOME": str(home), "RUNYARD_PORT": str(port), "PYTHONPATH": PYTHONPATH}
        | settings
    )
    return process.spawn([sys.executable, "-m", "runyard_api"], log=home / "api.log", env=env, cwd=ROOT)


def migrate(home: Path) -> None:
    env = os.environ | {"RUNYARD_HOME": str(home)}
    subprocess.run(
        [sys.executable, "-m", "runyard_common.database.migrate"], env=env, cwd=ROOT, check=True, timeout=120
    )


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=20).status_code == 200
    except httpx2.HTTPError:
        return False


def test_a_waiter_is_answered_and_the_process_gone_within_the_grace_period(home: Path) -> None:
    migrate(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    api = start(home, port)
    try:
        wait_until(lambda: answers(url), seconds=60)
        assert (home / "admin.key").stat().st_mode & 0o777 == 0o600
        bearer = {"authorization": f"Bearer {(home / 'admin.key').read_text().strip()}"}
        with httpx2.Client(base_url=url, headers=bearer, timeout=60) as client:
            client.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
            task_id = client.post("/api/v1/agents/chat/run", json={"query": "x"}).json()["task_id"]
            got: list[Any] = []
            waiting = threading.Thread(target=lambda: got.append(client.get(f"/tasks/{task_id}?wait=50")))
            waiting.start()
            with httpx2.Client(base_url=url, timeout=60) as other, Lateness() as late:
                wait_until(lambda: "runyard_waiters_open 1.0" in other.get("/metrics").text)
                began = time.monotonic()
                api.send_signal(signal.SIGTERM)
                waiting.join(45)
                assert got, "the waiter was not answered"
                assert (got[0].status_code, got[0].json()["status"]) == (200, "pending")
            assert api.wait(45) == 0
            assert time.monotonic() - began < 8 + late.seconds
    finally:
        process.end(api, grace=5)
    assert "Traceback" not in (home / "api.log").read_text()


def test_a_database_without_tables_is_one_clear_sentence(home: Path) -> None:
    api = start(home, free_port())
    assert api.wait(60) != 0
    log = (home / "api.log").read_text()
    assert "run `runyard migrate` first" in log
    assert "Traceback" not in log


def test_an_unknown_setting_is_one_clear_sentence(home: Path) -> None:
    api = start(home, free_port(), RUNYARD_PRT="1")
    assert api.wait(60) != 0
    assert "Unknown setting RUNYARD_PRT" in (home / "api.log").read_text()


def test_a_lame_duck_serves_on_while_it_is_not_ready_until_a_second_sigterm(home: Path) -> None:
    migrate(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    api = start(home, port, RUNYARD_LAME_DUCK_SECONDS="600")
    try:
        wait_until(lambda: answers(url), seconds=60)
        bearer = {"authorization": f"Bearer {(home / 'admin.key').read_text().strip()}"}
        with httpx2.Client(base_url=url, headers=bearer, timeout=30) as client:
            client.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
            api.send_signal(signal.SIGTERM)
            ready = wait_until(lambda: not_ready(client))
            assert ready is not None
            assert ready.json()["code"] == "stopping"
            assert ready.headers["connection"] == "close"
        with httpx2.Client(base_url=url, headers=bearer, timeout=30) as new:
            accepted = new.post("/api/v1/agents/chat/run", json={"query": "x"})
            assert accepted.status_code == 202
            assert accepted.headers["connection"] == "close"
        api.send_signal(signal.SIGTERM)
        assert api.wait(60) == 0
    finally:
        process.end(api, grace=5)


def test_a_lame_duck_drains_when_its_time_is_over(home: Path) -> None:
    migrate(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    api = start(home, port, RUNYARD_LAME_DUCK_SECONDS="2")
    try:
        wait_until(lambda: answers(url), seconds=60)
        began = time.monotonic()
        api.send_signal(signal.SIGTERM)
        assert api.wait(60) == 0
        assert time.monotonic() - began >= 2
    finally:
        process.end(api, grace=5)


def not_ready(client: httpx2.Client) -> httpx2.Response | None:
    """The answer of /readyz, once it is no 200."""
    answer = client.get("/readyz")
    return None if answer.status_code == 200 else answer
