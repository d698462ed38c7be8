"""Runs submitted at a steady pace to whichever apis serve, and what became of each."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from tests.rolling.deploys import Deployment

#: Quick ones, ones of several steps (which a drain hands on between two), and ones that outlast a drain's beginning.
KINDS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("@demo/echo", {}),
    ("@demo/blocking_sleeper", {"seconds": 0.2, "steps": 10}),
    ("@demo/echo", {}),
    ("@demo/sleeper", {"seconds": 1}),
)
#: Events of runs that were charged or rescued.
CHARGED: Final = frozenset({"retry", "rescue", "fail", "expire"})
_LONGEST_WAIT: Final = 120.0


@dataclass
class Figures:
    """What was asked, and what came of it."""

    requests: int = 0
    failed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    charged: list[str] = field(default_factory=list)
    handed_on: int = 0

    @property
    def is_good(self) -> bool:
        """Whether nothing failed, was lost or charged."""
        return not (self.failed or self.lost or self.charged)

    def __str__(self) -> str:
        text = (
            f"{self.requests} runs submitted: {len(self.failed)} requests failed, {len(self.lost)} runs lost, "
            f"{len(self.charged)} charged, {self.handed_on} handed on"
        )
        examples = [*self.failed[:3], *self.lost[:3], *self.charged[:3]]
        return text + (f"; such as {examples}" if examples else "")


class Load:
    """Submits from the beginning of its block to the end; then judge what became of the runs."""

    def __init__(self, site: Deployment, per_second: float) -> None:
        self._site = site
        self._pause = 1 / per_second
        self._ends = threading.Event()
        self._ids: list[str] = []
        self._figures = Figures()
        self._pool = ThreadPoolExecutor(16)
        self._thread = threading.Thread(target=self._submit_all, name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._pool.shutdown()

    def judge(self) -> Figures:
        """Wait for the end of every run, and look at its events."""
        deadline = time.monotonic() + _LONGEST_WAIT
        for task_id in self._ids:
            self._judge(task_id, deadline)
        return self._figures

    def _submit_all(self) -> None:
        for number in itertools.count():
            if self._ends.is_set():
                return
            self._pool.submit(self._submit, number)
            self._ends.wait(self._pause)

    def _submit(self, number: int) -> None:
        agent, args = KINDS[number % len(KINDS)]
        self._figures.requests += 1
        with self._site.led(number) as name:
            try:
                self._ids.append(self._site.submit(agent, args, name))
            except Exception as error:  # noqa: BLE001 - any failure of a request counts
                self._figures.failed.append(f"{name}: {type(error).__name__} {error}"[:300])

    def _judge(self, task_id: str, deadline: float) -> None:
        site, api = self._site, self._site.serving[0]
        while (task := site.task(task_id, api))["status"] not in ("completed", "failed", "stopped"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if task["status"] != "completed":
            self._figures.lost.append(f"{task_id} is {task['status']}")
        headers = {"accept": "application/json"}
        _, page = site.request("GET", f"/tasks/{task_id}/events?limit=200", name=api, headers=headers)
        types = [event["type"] for event in page["data"]]
        if CHARGED.intersection(types):
            self._figures.charged.append(f"{task_id}: {types}")
        self._figures.handed_on += "release" in types
