"""Celery beat's way to start a scheduler: its duties are the ones of `runyard scheduler`, and as many may run.

celery -A runyard_workers.app beat    (or `worker -B`: the application names this scheduler, by an entry point)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any, Final, NoReturn

import structlog
from billiard.process import current_process
from celery.beat import Scheduler

from runyard_common.database.start_checks import Process
from runyard_common.runtime import Runtime
from runyard_common.start_checks import settings_for
from runyard_common.values.errors import ConfigurationError
from runyard_scheduler.loop import Loop
from runyard_scheduler.runtime import open_duties

_DIES_WITH_ITS_PARENT: Final = 1  # PR_SET_PDEATHSIG
#: How often beat shows its own watchers that it is alive, in seconds. The duties keep their own time.
TICK = 1.0
#: How long beat waits for the duties under way when it ends, in seconds.
PATIENCE = 15.0


class RunyardScheduler(Scheduler):  # type: ignore[misc]
    """Drives Runyard's duties on a thread of their own; it keeps no file, and needs no single instance."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runtime: Runtime | None = None
        super().__init__(*args, **options)
        self.max_interval = TICK

    def setup_schedule(self) -> None:
        """Open what the duties need and begin; beat calls this where it does not only introspect."""
        if current_process().name != "MainProcess":
            _become_a_scheduler()
        try:
            self._runtime, duties = open_duties(settings_for(Process.SCHEDULER))
        except ConfigurationError as error:
            sys.stderr.write(f"runyard scheduler: {error.message}\n")
            sys.exit(2)
        self._loop = Loop(duties)
        self._thread = threading.Thread(target=self._loop.run, name="duties", daemon=True)
        self._thread.start()
        structlog.get_logger("runyard.scheduler").info(
            "The scheduler is up", action="start", duties=len(duties), under="celery beat"
        )

    def tick(self, *_: Any, **__: Any) -> float:
        """Seconds until beat should ask again; `RuntimeError` ends beat when its duties have ended."""
        if not self._thread.is_alive():
            raise RuntimeError("the duties have ended")
        return TICK

    def close(self) -> None:
        """End the duties under way, then what they used."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            self._loop.stop()
            self._thread.join(PATIENCE)
            runtime.close()
        super().close()

    @property
    def info(self) -> str:
        """The line of beat's banner."""
        return "    . schedules -> Runyard's database"


def _become_a_scheduler() -> NoReturn:
    """Under `worker -B`, beat is a fork of the worker: it shares locks and sockets of the worker's threads, which are
    not there. A process of its own under the same id has none of them, and is ended as beat would be."""
    if sys.platform == "linux":  # it goes with the worker, however that ends
        ctypes.CDLL(None).prctl(_DIES_WITH_ITS_PARENT, signal.SIGTERM, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "runyard_scheduler"])  # noqa: S606 - no shell wanted


__all__ = ["RunyardScheduler"]
