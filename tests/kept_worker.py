"""A worker that is started again when it ends, as every supervisor does, in a stack of real processes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from tests.stack import ROOT, Stack
from tests.waiting import wait_until

#: The lease of its worker, in seconds.
LEASE = 4.0
_JSON = {"accept": "application/json"}


class KeptWorker:
    """The exit statuses of the worker are in `ends`."""

    def __init__(self, folder: Path, agents: str, slots: int) -> None:
        """`agents` is a module of tests/acceptance."""
        path = str(ROOT / "tests" / "acceptance" / f"{agents}.py")
        self.stack = Stack(
            folder, agents=[path], RUNYARD_LEASE_SECONDS=str(LEASE), RUNYARD_WORKER_CONCURRENCY=str(slots)
        )
        self.ends: list[int] = []
        self._over = threading.Event()
        self._poster = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> KeptWorker:
        self.stack.__enter__()
        self._poster.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._poster.join(60)
        self.stack.__exit__(*error)

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            status = self.stack.processes["worker-1"].poll()
            if status is not None:
                self.ends.append(status)
                self.stack.start("worker-1")

    def settle(self) -> None:
        """Wait until the worker of now has enlisted, and forget how those before it ended."""

        def enlisted() -> bool:
            _, page = self.stack.request("GET", "/api/v1/ops/workers")
            pid = self.stack.processes["worker-1"].pid
            alive = any(w["pid"] == pid and w["state"] == "alive" for w in page["data"])
            return alive and self.stack.processes["worker-1"].poll() is None

        wait_until(enlisted, seconds=90)
        self.ends.clear()

    def wait_for_end(self) -> None:
        """Wait until a worker has ended: it does so a moment after the run that it ends for has failed."""
        wait_until(lambda: self.ends != [], seconds=60)

    @property
    def pid(self) -> int:
        """The process id of the worker of now."""
        return self.stack.processes["worker-1"].pid

    def charges(self, task_id: str) -> list[Any]:
        """What a run's log has of attempts that were charged to it."""
        _, page = self.stack.request("GET", f"/tasks/{task_id}/events", headers=_JSON)
        return [event for event in page["data"] if event["type"] in ("retry", "fail")]
