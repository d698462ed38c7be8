"""A server that goes away while a run is followed: what is printed, how it ends, and the run that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.contract.live import Live
from tests.waiting import wait_until

RUNYARD = [sys.executable, "-m", "runyard_launch.cli"]


@pytest.fixture
def away(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an api process that a test may end; its key is in the file `key`, where commands start."""
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path / "no-home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(live.key)
    return live.add_api()


def following(words: list[str]) -> subprocess.Popen[str]:
    """A command that follows a run."""
    command = [*RUNYARD, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_programs_read_that_the_run_goes_on_and_how_to_follow_it_again(live: Live, away: str) -> None:
    with live.client() as client:
        task = submitted(client)
        server = ["--url", live.url(name=away), "--key-file", "key"]
        with following(["tasks", "follow", task, *server, "--json"]) as running:
            assert running.stdout is not None
            while '"status": "running"' not in running.stdout.readline():
                pass
            live.end(away)
            stdout, stderr = running.communicate(timeout=60)
        for line in stdout.splitlines():
            json.loads(line)
        failure = json.loads(stderr)["error"]
        assert (running.returncode, failure["exit_code"], failure["code"]) == (5, 5, "follow_interrupted")
        assert (failure["task_id"], failure["status"]) == (task, "running")
        assert failure["follow"] in failure["message"]
        assert client.get(f"/api/v1/tasks/{task}").json()["status"] == "running", "it went on"
        client.post(f"/api/v1/tasks/{task}/cancel", json={})
    live.start(away)
    wait_until(lambda: live.status("/readyz", name=away) == 200, seconds=60)
    again = subprocess.run([*RUNYARD, *failure["follow"].split()[1:]], capture_output=True, text=True)
    assert (again.returncode, "stopped" in again.stderr) == (3, True)
    live.end(away)


def test_people_read_the_same_of_a_server_that_is_killed(live: Live, away: str) -> None:
    server = ["--url", live.url(name=away), "--key-file", "key"]
    words = ["run", "sleeper", "--args", '{"seconds": 60}', "--follow", *server]
    with following(words) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        task = line.split()[-1]
        while "running" not in line:
            line = running.stderr.readline()
        live.kill(away)
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 5
    assert stderr.splitlines()[-1] == (
        "runyard: The server has stopped answering. The run is not lost: it was running; workers go on with it, or "
        f"take it up again when they are back. Follow it again once the server is back: runyard tasks follow {task} "
        f"--url {live.url(name=away)} --key-file key"
    )
    with live.client() as client:
        client.post(f"/api/v1/tasks/{task}/cancel", json={})


def submitted(client: httpx2.Client) -> str:
    """A run that takes longer than the test."""
    answer = client.post("/api/v1/agents/sleeper/run", json={"args": {"seconds": 60}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])
