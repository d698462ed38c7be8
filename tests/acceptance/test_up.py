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

from launch.ports import free_port
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


def test_from_an_empty_home_to_a_completed_run_through_a_dead_worker_to_a_clean_stop(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    with up(tmp_path / "up.log", env, "--demo") as runyard:
        said = runyard.until(UP, STARTS_WITHIN)
        assert "completed" in said
        assert f"http://127.0.0.1:{env['RUNYARD_PORT']}/docs" in said
        processes = children(runyard.process.pid)
        assert len(processes) == 5

        assert "Another `runyard up`" in refused(env)
        assert "is taken" in refused({**env, "RUNYARD_HOME": f"{home}-other"})

        (worker,) = [pid for pid in processes if "workers" in command_of(pid)]
        os.kill(worker, signal.SIGKILL)
        runyard.until("worker ended (signal 9); starting it again")
        assert run_echo(env, home)["status"] == "completed"

        processes = children(runyard.process.pid)
        code, _ = runyard.end(signal.SIGTERM)
        assert code == 0
    assert not [pid for pid in processes if alive(pid)]
    assert not list(home.glob("*.url"))


def test_after_a_crash_everything_starts_again_on_what_it_left(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    with up(tmp_path / "first.log", env) as runyard:
        runyard.until(UP, STARTS_WITHIN)
        processes = children(runyard.process.pid)
        runyard.kill()
        wait_until(lambda: not [pid for pid in processes if alive(pid)])
    assert (home / "valkey.url").exists()
    with up(tmp_path / "second.log", env) as again:
        again.until(UP, STARTS_WITHIN)
        assert run_echo(env, home)["status"] == "completed"


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    proxied = env | dict.fromkeys(names, closed) | dict.fromkeys(map(str.lower, names), closed)
    proxied |= {"ALL_PROXY": closed.replace("http", "socks5")}
    for name in ("NO_PROXY", "no_proxy"):
        proxied.pop(name, None)
    with up(tmp_path / "up.log", proxied, "--demo") as runyard:
        assert "completed" in runyard.until(UP, STARTS_WITHIN)
        assert command(proxied, "run", "@demo/echo", "--args", "{}", "--follow").returncode == 0


def test_an_ipv6_host_stands_in_brackets_in_every_link_and_the_command_line_reaches_it(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    env = env | {"RUNYARD_HOST": "::1"}
    with up(tmp_path / "up.log", env) as runyard:
        said = runyard.until(UP, STARTS_WITHIN)
        base = f"http://[::1]:{env['RUNYARD_PORT']}"
        assert f"{base}/console" in said
        assert "http://::1" not in said
        assert httpx2.get(f"{base}/readyz").status_code == 200
        wait_until(
            lambda: command(env, "run", "@demo/echo", "--args", "{}", "--follow").returncode == 0,
            seconds=60,
        )


def test_a_file_whose_name_is_no_text_can_be_attached(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    odd = os.fsencode(tmp_path) + b"/odd\xff.txt"
    with open(odd, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"text")
    with up(tmp_path / "up.log", env) as runyard:
        runyard.until(UP, STARTS_WITHIN)
        wait_until(
            lambda: command(env, "run", "@demo/echo", "--file", odd, "--follow").returncode == 0, seconds=60
        )


def command(env: dict[str, str], *arguments: str | bytes) -> subprocess.CompletedProcess[str]:
    """A `runyard` command, run to its end; none may end in a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", *arguments],
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
