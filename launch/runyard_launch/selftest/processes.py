"""The processes that the selftest starts, dedicated workers and a scheduler. They end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runyard_launch.selftest.agents import FOLDER
from runyard_launch.supervisor import process

AGENTS: Final = "runyard_launch.selftest.agents"
_GRACE: Final = 10.0
_SCHEDULES: Final = "The scheduler is up"


class Processes:
    """Starts them with the deployment's settings, but for what makes workers the selftest's own."""

    def __init__(self, folder: Path, org_id: str, broker_url: str | None) -> None:
        """`folder` is for logs and notes; `broker_url` is another way to the broker, or None for the deployment's."""
        self._folder = folder
        own = {
            "RUNYARD_AGENTS": AGENTS,
            "RUNYARD_WORKER_DEDICATED": "true",
            "RUNYARD_WORKER_ORGANISATION": org_id,
            "RUNYARD_WORKER_CONCURRENCY": "20",
            "RUNYARD_DRAIN_SECONDS": "3",
            FOLDER: str(folder),
        }
        self._worker_env = own | ({"RUNYARD_BROKER_URL": broker_url} if broker_url else {})
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start_worker(self, name: str) -> None:
        """Start one more worker."""
        self._start(name, ["runyard_workers", "-n", f"{name}-{os.getpid()}@%h"], self._worker_env)

    def start_scheduler(self, name: str) -> None:
        """Start a scheduler of its own beside the deployment's."""
        # Its runs say nothing of workers: what their log has is not needed.
        self._start(name, ["runyard_scheduler"], {"RUNYARD_LOG_LEVEL": "info"})

    def schedules(self, name: str) -> bool:
        """Whether a scheduler has begun."""
        return _SCHEDULES in self.log(name)

    def _start(self, name: str, arguments: list[str], own: Mapping[str, str]) -> None:
        argv = [sys.executable, "-P", "-m", *arguments]
        env = {**os.environ, **own}
        self.running[name] = process.spawn(argv, log=self._folder / f"{name}.log", env=env)

    def pids(self) -> dict[int, str]:
        """The names of those that have not ended, by process id."""
        return {one.pid: name for name, one in self.running.items() if one.poll() is None}

    def ended(self) -> list[str]:
        """The names of those that ended by themselves."""
        return [name for name, one in self.running.items() if one.poll() is not None]

    def kill(self, name: str) -> None:
        """As by the kernel: it can do nothing about it."""
        killed = self.running.pop(name)
        killed.send_signal(signal.SIGKILL)
        killed.wait()

    def log(self, name: str) -> str:
        """What a process has written."""
        file = self._folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def end(self) -> None:
        """End all of them, in order where they let themselves be."""
        for one in self.running.values():
            if one.poll() is None:
                one.terminate()
        for one in self.running.values():
            process.end(one, grace=_GRACE)
        self.running.clear()
