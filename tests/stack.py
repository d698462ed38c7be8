"""A whole installation of real processes on loopback, which a test may kill, stop and start again.

with Stack(tmp_path) as stack:
    task = stack.run("@demo/echo", {"a": 1})
    stack.kill("worker-1")
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runyard_common.settings import Settings
from runyard_launch.supervisor import process
from tests import databases
from tests.ports import free_port
from tests.servers import ValkeyServer

ROOT = Path(__file__).parents[1]
MODULES = {"api": "runyard_api", "worker": "runyard_workers", "scheduler": "runyard_scheduler"}
#: PYTHONPATH of a process that is to find the checkout's packages, and the tests.
FOLDERS = ("", "common", "api", "workers", "scheduler", "launch")
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in FOLDERS)


class Stack:
    """Processes by name: api-1, worker-1, scheduler-1, … `env` holds further RUNYARD_ settings.

    With `one_port` all apis listen on the same.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str = "",
        broker_url: str = "",
        redis_url: str = "",
        api: int = 1,
        workers: int = 1,
        schedulers: int = 1,
        one_port: bool = False,
        agents: Iterable[str] = (),
        ready_seconds: float = 120,
        **env: str,
    ) -> None:
        self._ready_seconds = ready_seconds
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.logs = folder / "logs"
        self.logs.mkdir(exist_ok=True)
        self.valkey = ValkeyServer(folder / "valkey")
        self.valkey.folder.mkdir(exist_ok=True)
        self._counts = {"api": api, "worker": workers, "scheduler": schedulers}
        shared = free_port() if one_port else 0
        self.ports = {f"api-{n}": shared or free_port() for n in range(1, api + 1)}
        env |= {"RUNYARD_SHARE_PORT": "true"} if one_port else {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        sources = [str(ROOT / "examples"), *agents]
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("RUNYARD_")} | {
            "RUNYARD_HOME": str(self.home),
            "RUNYARD_DATABASE_URL": database_url,
            "RUNYARD_BROKER_URL": broker_url,
            "RUNYARD_REDIS_URL": redis_url,
            "RUNYARD_AGENTS": ",".join(sources),
            "RUNYARD_ALLOW_PRIVATE_URLS": "true",
            "PYTHONPATH": PYTHONPATH,
            **env,
        }

    def __enter__(self) -> Stack:
        self.valkey.start()
        self.env["RUNYARD_REDIS_URL"] = self.env["RUNYARD_REDIS_URL"] or self.valkey.url
        self.env["RUNYARD_BROKER_URL"] = self.env["RUNYARD_BROKER_URL"] or self.valkey.url
        self._migrate()
        for kind, count in self._counts.items():
            for number in range(1, count + 1):
                self.start(f"{kind}-{number}")
        self.wait_ready(self._ready_seconds)
        return self

    def _migrate(self) -> None:
        """Apply the migrations, in this process: another would import for seconds what this one has."""
        given = self.env["RUNYARD_DATABASE_URL"]
        pooler = self.env.get("RUNYARD_DATABASE_POOLER", "")
        databases.opened(
            Settings(home=self.home, database_url=given, database_pooler=pooler).database
        ).close()

    def __exit__(self, *_: object) -> None:
        for running in self.processes.values():
            if running.poll() is None:
                running.send_signal(signal.SIGCONT)
                running.terminate()
        for running in self.processes.values():
            process.end(running, grace=10)
        self.valkey.stop()

    def start(self, name: str) -> None:
        """Start (again) one process."""
        kind, _, number = name.partition("-")
        command = [sys.executable, "-m", MODULES[kind]]
        env = self.env | {"RUNYARD_PORT": str(self.ports[name])} if kind == "api" else self.env
        if kind == "worker":
            command += ["-n", f"{self.home.parent.name}-{number}@%h"]
        log = self.logs / f"{name}.log"
        self.processes[name] = process.spawn(command, log=log, env=env, cwd=ROOT)

    def kill(self, name: str, sig: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL the process is gone when this returns."""
        self.processes[name].send_signal(sig)
        if sig == signal.SIGKILL:
            self.processes[name].wait()

    def end(self, name: str, grace: float = 60) -> int:
        """Stop one process in order; its exit code."""
        return process.end(self.processes[name], grace=grace)

    def wait_ready(self, seconds: float = 120) -> None:
        """Wait until every api answers and a worker has published the agents."""
        deadline = time.monotonic() + seconds
        for name in self.ports:
            while self.status("/readyz", name=name) != 200:
                self._check_alive(name, deadline)
                time.sleep(0.1)
        while not self._agents_published():
            self._check_alive("worker-1", deadline)
            time.sleep(0.1)

    def _agents_published(self) -> bool:
        if not self.ports:
            return True  # no process to ask
        status, body = self.request("GET", "/api/v1/agents?limit=100")
        return bool(status == 200 and body["data"]) or "worker-1" not in self.processes

    def _check_alive(self, name: str, deadline: float) -> None:
        running = self.processes.get(name)
        dead = running is not None and running.poll() is not None
        if dead or time.monotonic() > deadline:
            raise AssertionError(f"{name} is not ready:\n{(self.logs / f'{name}.log').read_text()[-3000:]}")

    @property
    def key(self) -> str:
        """The admin key."""
        return (self.home / "admin.key").read_text().strip()

    def url(self, path: str = "", name: str = "api-1") -> str:
        """An address of one api."""
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def status(self, path: str, name: str = "api-1") -> int:
        """The status of an unauthenticated GET; 0 without an answer."""
        try:
            with urllib.request.urlopen(self.url(path, name), timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        name: str = "api-1",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """One authenticated JSON request: status and decoded body; (0, None) without an answer."""
        data = None if body is None else json.dumps(body).encode()
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url(path, name), data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                raw, status = answer.read(), int(answer.status)
        except urllib.error.HTTPError as error:
            raw, status = error.read(), error.code
        except (OSError, http.client.HTTPException):  # it ended in the middle of its answer
            return 0, None
        return status, json.loads(raw) if raw.strip() else None

    def submit(self, agent: str, args: Any = None, name: str = "api-1", **fields: Any) -> str:
        """Submit a run; its task id."""
        path = f"/api/v1/agents/{urllib.request.quote(agent, safe='')}/run"  # type: ignore[attr-defined]
        status, body = self.request("POST", path, {"args": args, **fields}, name)
        assert status == 202, (status, body)
        return str(body["task_id"])

    def task(self, task_id: str, name: str = "api-1") -> dict[str, Any]:
        """A task as the api shows it."""
        status, body = self.request("GET", f"/tasks/{task_id}", name=name)
        assert status == 200, (status, body)
        return dict(body)

    def until(self, task_id: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for a task to have one of these statuses (default: any terminal one)."""
        wanted = statuses or ("completed", "failed", "stopped")
        deadline = time.monotonic() + seconds
        while (task := self.task(task_id))["status"] not in wanted:
            assert time.monotonic() < deadline, task
            time.sleep(0.05)
        return task

    def run(self, agent: str, args: Any = None, seconds: float = 60, **fields: Any) -> dict[str, Any]:
        """Submit and wait for the end."""
        return self.until(self.submit(agent, args, **fields), seconds=seconds)
