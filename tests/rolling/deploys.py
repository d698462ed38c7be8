"""An installation whose processes are of one release or another, replaced and scaled under load."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from runyard_launch.supervisor import process
from tests.rolling.releases import python_path
from tests.stack import MODULES, ROOT, Stack
from tests.waiting import wait_until

#: How long an api serves on after it has shown that it leaves; a balancer looks more often.
LAME_DUCK_SECONDS: Final = 2


class Deployment(Stack):
    """A `Stack` that begins with processes of `root`, and may go on with those of other releases.

    Callers are led to the apis in `serving`. One that leaves is removed when it shows that it is no longer ready, as a
    balancer does; with `emptied_first` it is asked to leave when it was removed and its last request has its answer.
    """

    def __init__(
        self, folder: Path, root: Path, apis: int = 2, emptied_first: bool = False, **settings: Any
    ) -> None:
        super().__init__(
            folder, workers=1, api=apis, schedulers=1,
            RUNYARD_LAME_DUCK_SECONDS=str(LAME_DUCK_SECONDS), RUNYARD_DRAIN_SECONDS="5",
            RUNYARD_AGENTS=str(root / "examples"), **settings,
        )  # fmt: skip
        self.root = root
        self.serving = list(self.ports)
        self.in_flight: Counter[str] = Counter()
        self._emptied_first = emptied_first
        self._lock = threading.Lock()

    def __enter__(self) -> Deployment:
        super().__enter__()
        return self

    def _migrate(self) -> None:
        self.migrate(self.root)

    def migrate(self, root: Path) -> None:
        """`runyard migrate` of a release."""
        command = [sys.executable, "-m", "runyard_common.database.migrate"]
        made = subprocess.run(
            command, env=self._env(root), cwd=root, capture_output=True, text=True, timeout=120, check=False
        )
        assert made.returncode == 0, made.stderr

    def start(self, name: str, root: Path | None = None) -> None:
        """Start one process of a release (default: the one it began with)."""
        root = root or self.root
        kind, _, number = name.partition("-")
        command, env = [sys.executable, "-m", MODULES[kind]], self._env(root)
        if kind == "api":
            env["RUNYARD_PORT"] = str(self.ports.setdefault(name, process.free_port()))
        if kind == "worker":
            command += ["-n", f"{self.home.parent.name}-{number}@%h"]
        self.processes[name] = process.spawn(command, log=self.logs / f"{name}.log", env=env, cwd=root)

    def replace(self, old: str, new: str, root: Path) -> None:
        """Start a process of a release, wait until it does its work, and let the old one leave."""
        if new.startswith("worker"):
            self.start_worker(new, root)
        else:
            self.start(new, root)
        if new.startswith("api"):
            wait_until(lambda: self.status("/readyz", name=new) == 200, seconds=120)
            self.serving.append(new)
        self.leave(old)

    def start_worker(self, name: str, root: Path) -> None:
        """Start a worker, and wait until it claims."""
        before = self.workers()
        self.start(name, root)
        wait_until(lambda: len(self.workers() - before) == 1, seconds=120)

    @contextmanager
    def led(self, number: int) -> Iterator[str]:
        """The api that a caller is led to, for the time of its request."""
        with self._lock:
            name = self.serving[number % len(self.serving)]
            self.in_flight[name] += 1
        try:
            yield name
        finally:
            with self._lock:
                self.in_flight[name] -= 1

    def leave(self, name: str) -> None:
        """SIGTERM, and wait for its end."""
        if name.startswith("api") and self._emptied_first:
            with self._lock:
                self.serving.remove(name)
            wait_until(lambda: not self.in_flight[name], seconds=60)
        self.kill(name, signal.SIGTERM)
        if name in self.serving:
            wait_until(lambda: self.status("/readyz", name=name) != 200, seconds=30, every=0.05)
            with self._lock:
                self.serving.remove(name)
        code = self.processes.pop(name).wait(120)
        assert code == 0, f"{name} ended with {code}:\n{(self.logs / f'{name}.log').read_text()[-2000:]}"
        self.ports.pop(name, None)

    def workers(self) -> set[str]:
        """The lives of workers that there are."""
        _, page = self.request("GET", "/api/v1/ops/workers", name=self.serving[0])
        return {row["id"] for row in page["data"]}

    def _env(self, root: Path) -> dict[str, str]:
        return self.env | {"PYTHONPATH": python_path(root)}


#: Each process, and what comes for it.
ALL: Final = (
    ("worker-1", "worker-2"),
    ("scheduler-1", "scheduler-2"),
    ("api-1", "api-3"),
    ("api-2", "api-4"),
)


def roll(site: Deployment, new: Path, processes: Iterable[tuple[str, str]] = ALL) -> list[str]:
    """Migrate with the new release, then replace these processes; what was done, with seconds."""
    done, began = [], time.monotonic()
    site.migrate(new)
    done.append(f"migrate {time.monotonic() - began:.1f} s")
    for old, name in processes:
        began = time.monotonic()
        site.replace(old, name, new)
        done.append(f"{old} -> {name} {time.monotonic() - began:.1f} s")
    return done


def scale(site: Deployment, only: str, most: int) -> list[str]:
    """From one worker to `most` and back to the first."""
    began, names = time.monotonic(), [f"worker-{10 + n}" for n in range(most - 1)]
    for name in names:
        site.start_worker(name, ROOT)
    up = time.monotonic() - began
    for name in names:
        site.leave(name)
    assert site.processes[only].poll() is None
    return [f"1 -> {most} workers {up:.1f} s", f"{most} -> 1 workers {time.monotonic() - began - up:.1f} s"]
