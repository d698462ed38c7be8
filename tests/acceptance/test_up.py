"""`runyard up` with everything it starts, from an empty home, through crashes, to a clean stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.lateness import Lateness
from tests.launching import ROOT, alive, children, command_of, refused, up
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.local_model, pytest.mark.timeout(300)]
UP = "Ctrl-C stops everything"
SAMPLE = "Its output, checked against"
CTRL_C_WITHIN = 6.0  # seconds: two, and what the end of processes costs
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
        output = runyard.until(SAMPLE, STARTS_WITHIN)
        assert output.index(UP) < output.index("One sample run"), "the addresses come first"
        assert "completed" in output
        assert "invents" in output
        assert f"http://127.0.0.1:{env['RUNYARD_PORT']}/docs" in output
        processes = wait_until(lambda: _five(children(runyard.process.pid)), seconds=60)
        assert re.search(r"sign in +http://127\.0\.0\.1:\d+/console#/enter/\S+", output)

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

    with up(tmp_path / "second.log", env, "--demo") as again:
        again.until(UP, STARTS_WITHIN)
        assert run_echo(env, home)["status"] == "completed"
        processes = children(again.process.pid)
        code, output = again.end(signal.SIGTERM)
        assert code == 0
        assert "One sample run" not in output, "the sample is for the first start"
    assert not [pid for pid in processes if alive(pid)]
    assert not list(home.glob("*.url"))


def test_it_starts_and_is_reached_by_ipv6_behind_a_proxy_that_never_answers(
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
        output = runyard.until(SAMPLE, STARTS_WITHIN)
        base = f"http://[::1]:{env['RUNYARD_PORT']}"
        assert "completed" in output
        assert f"{base}/console" in output
        assert "http://::1" not in output
        assert httpx2.get(f"{base}/readyz", trust_env=False).status_code == 200
        done = command(odd, "run", "@demo/echo", "--file", file, "--follow")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def plain(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An empty home with a free port of its own choice, no local model, and agents of the test."""
    return env | {
        "RUNYARD_PORT": "0",
        "RUNYARD_MODEL": "openai:none",
        "OPENAI_API_KEY": "none",
        "RUNYARD_AGENTS": str(tmp_path / "authors"),
    }


def test_agents_that_cannot_be_loaded_are_shown_in_one_block_while_the_api_stays_up(
    plain: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "authors"
    folder.mkdir()
    (folder / "one.py").write_text("from runyard import agent\n\n\nasync def one(ctx, args)\n    pass\n")
    (folder / "two.py").write_text("import os\n\nimport no_such_module_of_the_test\n")
    with up(tmp_path / "up.log", plain) as runyard:
        output = runyard.until("everything else stays up", STARTS_WITHIN)
        runyard.until(UP, STARTS_WITHIN)
        block = output[
            output.index("runyard worker: RUNYARD_AGENTS") : output.index("everything else stays up")
        ]
        assert len(block.splitlines()) <= 6
        assert re.search(r"one\.py.*line 4", block)
        assert re.search(r"two\.py.*line 3.*no_such_module_of_the_test", block)
        for noise in ("Traceback", "concurrent", "PoolStartError", "celery"):
            assert noise not in output
        assert command(plain, "tasks", "list", "--json").stdout == "[]\n", "the port is found in the home"
        code, output = runyard.end(signal.SIGINT)
    assert code == 2
    assert "starting it again" not in output


def test_one_broken_agent_is_shown_while_the_others_run(plain: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "authors"
    folder.mkdir()
    (folder / "broken.py").write_text("\n1 / 0\n")
    (folder / "sound.py").write_text(
        "from runyard import agent\n\n\n@agent('@test/sound')\nasync def sound(ctx, args):\n    return 1\n"
    )
    with up(tmp_path / "up.log", plain) as runyard:
        output = runyard.until("The other agents run", STARTS_WITHIN)
        assert re.search(r"broken\.py.*line 2.*ZeroDivisionError", output)
        wait_until(
            lambda: command(plain, "run", "@test/sound", "--args", "{}", "--follow").returncode == 0,
            seconds=60,
            every=0.5,
        )
        code, output = runyard.end(signal.SIGTERM)
    assert code == 2
    assert output.count("broken.py, line 2") == 1


def test_ctrl_c_does_not_wait_for_an_agent_and_shows_what_it_waits_for(
    plain: dict[str, str], home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "authors"
    folder.mkdir()
    (folder / "slow.py").write_text(
        "import asyncio\nfrom runyard import agent\n\n\n@agent('@test/slow')\nasync def slow(ctx, args):\n"
        "    await asyncio.sleep(600)\n"
    )
    with up(tmp_path / "up.log", plain) as runyard:
        runyard.until(UP, STARTS_WITHIN)
        wait_until(
            lambda: command(plain, "run", "@test/slow", "--args", "{}").returncode == 0, seconds=60, every=0.5
        )
        running = ("tasks", "list", "--status", "running", "--json")
        wait_until(lambda: command(plain, *running).stdout != "[]\n", seconds=60, every=0.5)
        processes = children(runyard.process.pid)
        with Lateness() as late:
            began = time.monotonic()
            code, output = runyard.end(signal.SIGINT)
            took = time.monotonic() - began
    assert code == 0
    assert "Stopping: waiting for worker, api, scheduler, valkey" in output
    assert took < CTRL_C_WITHIN + late.seconds
    assert not [pid for pid in processes if alive(pid)]
    assert not (home / "api.url").exists()


def command(env: dict[str, str], *arguments: str | bytes) -> subprocess.CompletedProcess[str]:
    """A `runyard` command, run to its end; none may end in a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "runyard_launch.cli", *arguments],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
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


def _five(processes: list[int]) -> list[int]:
    """The five that stay, once the sample's has ended."""
    return processes if len(processes) == 5 else []
