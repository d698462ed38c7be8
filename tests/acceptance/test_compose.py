"""The production path: what `compose.yaml` starts, started as processes of this machine with its own settings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import process
from launch.ports import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
RUNYARD = Path(sys.executable).parent / "runyard"
DEFAULT = re.compile(r"\$\{(\w+):-((?:[^{}]|\{[^{}]*\})*)\}")
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]*\}")

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(150)]


def _services() -> dict[str, Any]:
    """The services that run Runyard's own image, as the file has them after its merges."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return {name: service for name, service in services.items() if service.get("image") == "runyard"}


def _settings(service: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    """A service's environment, `${NAME:-default}` and `${NAME:?required}` filled in as compose does."""
    fill = lambda found: given.get(found[1]) or found[2]  # noqa: E731
    filled = {name: DEFAULT.sub(fill, str(text)) for name, text in service["environment"].items()}
    return {name: REQUIRED.sub(lambda found: given[found[1]], text) for name, text in filled.items()}


class Installation:
    """The processes of the file, on servers of the tests."""

    def __init__(self, folder: Path, given: dict[str, str]) -> None:
        self.home, self.port = folder / "home", free_port()
        self.home.mkdir()
        self.given = given | {"RUNYARD_AGENTS": str(ROOT / "examples")}
        self.processes = {}
        for name, service in _services().items():
            env = {k: v for k, v in os.environ.items() if not k.startswith("RUNYARD_")}
            env |= _settings(service, self.given)
            env |= {
                "RUNYARD_HOME": str(self.home),
                "RUNYARD_PORT": str(self.port),
            }  # what the image and ports: say
            log = folder / f"{name}.log"
            self.processes[name] = process.spawn([RUNYARD, *service["command"]], log=log, env=env, cwd=folder)
            if name == "migrate":  # the others depend on its success
                assert self.processes[name].wait(60) == 0, log.read_text()

    def request(self, path: str, body: Any = None) -> tuple[int, Any]:
        """One call with the admin's key; (0, None) while nobody answers."""
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
        return {name: running.wait(40) for name, running in self.processes.items()}


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
            "POSTGRES_PASSWORD": "unused: the address has one",
        },
    )
    yield started
    started.stop()


def test_the_file_starts_an_api_a_worker_and_a_scheduler_behind_the_migration() -> None:
    services = _services()
    assert list(services) == ["migrate", "api", "worker", "scheduler"]
    assert [s["command"] for s in services.values()] == [["migrate"], ["api"], ["worker"], ["scheduler"]]
    for name in ("api", "worker", "scheduler"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert (
            services[name]["volumes"] == services["migrate"]["volumes"]
        )  # one home: one key, the same secrets


def test_the_file_has_no_password_and_opens_nothing_to_other_machines() -> None:
    text = (ROOT / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert services["api"]["ports"] == ["${RUNYARD_BIND:-127.0.0.1}:${RUNYARD_PORT:-8000}:8000"]
    assert [name for name, service in services.items() if "ports" in service] == ["api"]
    for name in ("postgres", "valkey", "rabbitmq"):
        assert services[name]["networks"] == ["servers"], "nobody but the processes reaches it"
        assert set(REQUIRED.findall(str(services[name]["environment"]))), "its password has to be given"
    assert not re.search(r"://\w+:(?!\$)[^/@<\s]+@", text), "a password stands in an address"
    for service in _services().values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]


def test_its_passwords_are_made_once_and_are_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    script = folder / "secrets.sh"
    script.write_text((ROOT / "deploy" / "secrets.sh").read_text())
    env = tmp_path / ".env"
    env.write_text("RUNYARD_MODEL=local\n")
    env.chmod(0o644)
    for _ in range(2):
        subprocess.run(["sh", script], check=True)
        lines = dict(line.split("=") for line in env.read_text().splitlines())
        made = {lines[name] for name in ("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "RABBITMQ_PASSWORD")}
        assert len(made) == 3
        assert {len(password) for password in made} == {48}
    assert len(lines) == 4, "what is there stays, and is not written twice"
    assert env.stat().st_mode & 0o777 == 0o600


def test_an_env_file_without_an_end_of_line_keeps_its_last_value_and_an_empty_password_is_made(
    tmp_path: Path,
) -> None:
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / "secrets.sh"
    script.write_text((ROOT / "deploy" / "secrets.sh").read_text())
    env = tmp_path / ".env"
    env.write_text("POSTGRES_PASSWORD=\nOPENAI_API_KEY=1")
    subprocess.run(["sh", script], check=True)
    lines = dict(line.split("=") for line in env.read_text().splitlines())
    assert lines["OPENAI_API_KEY"] == "1"
    assert len(lines["POSTGRES_PASSWORD"]) == 48
    assert len(env.read_text().splitlines()) == 4


def test_what_is_secret_does_not_reach_an_image() -> None:
    assert {".env", ".env.*", "**/*.pem", "**/*.key"} <= set((ROOT / ".dockerignore").read_text().split())


def test_its_processes_complete_a_run_now_and_one_by_schedule_and_stop_in_order(
    installation: Installation,
) -> None:
    wait_until(lambda: installation.request("/readyz")[0] == 200, seconds=60)
    run = "/api/v1/agents/%40demo%2Fecho/run"
    wait_until(lambda: installation.request(run, {"args": {"first": True}})[0] == 202, seconds=60)
    _, accepted = installation.request(
        run, {"args": {"n": 1}, "schedules": [{"schedule": 1, "message": "later"}]}
    )
    _, task = installation.request(f"/tasks/{accepted['task_id']}?wait=30")
    assert (task["status"], task["output"]["args"]) == ("completed", {"n": 1})
    schedule = accepted["schedules"][0]["id"]

    def fired() -> bool:
        _, page = installation.request(f"/api/v1/tasks?schedule_id={schedule}&status=completed")
        return bool(page["data"])

    wait_until(fired, seconds=30)
    began = time.monotonic()
    others = [path for path in installation.home.rglob("*") if path.stat().st_mode & 0o077]
    assert not others, "what the processes write is their user's alone"
    assert installation.stop() == {"migrate": 0, "api": 0, "worker": 0, "scheduler": 0}
    assert time.monotonic() - began < 30  # compose's stop_grace_period
