"""`runyard up` with everything it starts, from an empty home, through crashes, to a clean stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard_launch.ports import free_port
from tests.launching import ROOT, alive, children, command_of, refused, up
from tests.waiting import wait_until

pytestmark = [pytest.mark.local_model, pytest.mark.timeout(300)]
UP = "Ctrl-C stops everything"
STARTS_WITHIN = 120.0  # on a machine that is busy with other things


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    """An empty home, a free port, the examples."""
    return {
        **os.environ,
        "RUNYARD_HOME": str(home),
        "RUNYARD_PORT": str(free_port()),
        "RUNYARD_AGENTS": str(ROOT / "examples"),
    }


def test_from_an_empty_home_through_a_dead_worker_and_a_crash_of_everything_to_a_clean_stop(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    with up(tmp_path / "first.log", env, "--demo") as runyard:
        said = runyard.until(UP, STARTS_WITHIN)
        assert "completed" in said
        assert f"http://127.0.0.1:{env['RUNYARD_PORT']}/docs" in said
        processes = children(runyard.process.pid)
        assert len(processes) == 5

        assert "Another `runyard up`" in refused(env)
        assert "is taken" in refused({**env, "RUNYARD_HOME": f"{home}-other"})

        (worker,) = [pid for pid in processes if "runyard_workers" in command_of(pid)]
        os.kill(worker, signal.SIGKILL)
        runyard.until("worker ended (signal 9); starting it again")
        assert run_echo(env, home)["status"] == "completed"

        processes = children(runyard.process.pid)
        runyard.kill()
        wait_until(lambda: not [pid for pid in processes if alive(pid)])
    assert (home / "valkey.url").exists(), "it had no chance to clear up"

    with up(tmp_path / "second.log", env) as again:
        again.until(UP, STARTS_WITHIN)
        assert run_echo(env, home)["status"] == "completed"
        processes = children(again.process.pid)
        code, _ = again.end(signal.SIGTERM)
        assert code == 0
    assert not [pid for pid in processes if alive(pid)]
    assert not list(home.glob("*.url"))


def test_it_starts_and_is_reached_by_ipv6_behind_a_proxy_that_answers_nobody(
    env: dict[str, str], tmp_path: Path
) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    odd = env | dict.fromkeys(names, closed) | dict.fromkeys(map(str.lower, names), closed)
    odd |= {"ALL_PROXY": closed.replace("http", "socks5"), "RUNYARD_HOST": "::1"}
    for name in ("NO_PROXY", "no_proxy"):
        odd.pop(name, None)
    file = os.fsencode(tmp_path) + b"/odd\xff.txt"
    with open(file, "wb") as opened:  # noqa: PTH123 - a name of bytes, which is no text
        opened.write(b"text")
    with up(tmp_path / "up.log", odd, "--demo") as runyard:
        said = runyard.until(UP, STARTS_WITHIN)
        base = f"http://[::1]:{env['RUNYARD_PORT']}"
        assert "completed" in said
        assert f"{base}/console" in said
        assert "http://::1" not in said
        assert httpx2.get(f"{base}/readyz", trust_env=False).status_code == 200
        done = command(odd, "run", "@demo/echo", "--file", file, "--follow")
        assert done.returncode == 0, done.stderr


def command(env: dict[str, str], *arguments: str | bytes) -> subprocess.CompletedProcess[str]:
    """A `runyard` command, run to its end; none may end in a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "runyard_launch.cli", *arguments],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def run_echo(env: dict[str, str], home: Path) -> dict[str, Any]:
    """Run the echo agent through the public API; the task when it has ended."""
    headers = {"Authorization": f"Bearer {(home / 'admin.key').read_text().strip()}"}
    base = f"http://127.0.0.1:{env['RUNYARD_PORT']}/api/v1"
    with httpx2.Client(base_url=base, headers=headers, timeout=60) as client:
        sent = wait_until(lambda: _sent(client), seconds=60, every=0.2)
        return wait_until(lambda: _ended(client, sent["task_id"]), seconds=60)


def _sent(client: httpx2.Client) -> dict[str, Any]:
    answer = client.post("/agents/@demo/echo/run", json={"args": {"n": 1}})
    return dict(answer.json()) if answer.status_code == 202 else {}


def _ended(client: httpx2.Client, task_id: str) -> dict[str, Any]:
    task = client.get(f"/tasks/{task_id}", params={"wait": 10}).json()
    return dict(task) if task["status"] in {"completed", "failed", "stopped"} else {}
