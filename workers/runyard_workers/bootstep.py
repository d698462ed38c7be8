"""Celery's side of a worker: the step that owns the event loop, from the start of the engine to the end of its drain.

Messages are wake-ups, and their tasks set an event: Celery's `solo` pool runs them on the main thread, between two
reads of the broker. The runs are on a loop in a thread of its own, which this step starts before the consumer and
drains when Celery shuts down.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_shutting_down
from celery.worker import control, state

from runyard_workers.isolation.loop_thread import POLL_SECONDS, LoopThread
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.slots import Slots

if TYPE_CHECKING:
    from runyard_workers.runtime import Runtime

logger = structlog.get_logger("runyard.worker")

_SLOTS: Final = (
    "A worker has as many slots as at its start (-c, RUNYARD_WORKER_CONCURRENCY): start another worker."
)
_WAKE_UPS: Final = "Messages are wake-ups, not runs: set a limit of Runyard's, or the agent's timeout."
_CANCEL: Final = "Messages are wake-ups, not runs: cancel the run (runyard tasks cancel TASK)."
#: Commands of remote control without a use here, and the answer to them.
REFUSED: Final = {
    "pool_grow": _SLOTS, "pool_shrink": _SLOTS, "autoscale": _SLOTS, "rate_limit": _WAKE_UPS, "time_limit": _WAKE_UPS,
    "revoke": _CANCEL, "terminate": _CANCEL,
    "pool_restart": "Stop this worker (control shutdown) and start another: its runs are handed on.",
}  # fmt: skip

#: What a cold shutdown gives to runs that clean up, in seconds.
COLD_SECONDS: Final = 5.0
#: What the main thread has to end the process after the drain, in seconds.
END_SECONDS: Final = 6.0


class EngineStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Celery calls the methods from the worker's main thread, which may be interrupted by its signal handlers."""

    label = "Engine"
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, end_process: Callable[[int], Any] = os._exit, **_: Any) -> None:
        self._runtime: Runtime = worker.app.runyard_runtime
        self._end_process = end_process
        self._thread: LoopThread | None = None
        self._drain: Future[None] | None = None
        self._begun = threading.Lock()  # taken once, by what begins the shutdown; never waited for

    def start(self, worker: Any) -> None:
        """Start the engine, and only then let the consumer take wake-ups, none while every slot is in use."""
        consumer = worker.consumer
        slots = Slots(worker.max_concurrency or worker.concurrency)
        slots.on_free(lambda: consumer.call_soon(consumer.deliver_parked))
        threads = RunThreads(slots.limit)
        thread = LoopThread(threads)
        try:
            thread.wait_for(self._runtime.start(slots, threads), meanwhile=state.maybe_shutdown)
        except BaseException:
            thread.end(COLD_SECONDS, starting=True)
            raise
        self._thread, self._slots, self._consumer = thread, slots, consumer
        consumer.has_free_slot = lambda: slots.free > 0 and not (self._drain or self._runtime.leaving)
        worker_shutting_down.connect(self._on_signal)

    def info(self, worker: Any) -> dict[str, Any]:
        """What `inspect stats` shows of the pool: the slots for runs, as the main thread is the pool's only one."""
        if self._thread is None:
            return {}
        slots = {"max-concurrency": self._slots.limit, "slots-in-use": self._slots.in_use}
        return {"pool": worker.pool.info | slots}

    def close(self, worker: Any) -> None:
        """Begin the drain: a shutdown begins, by a signal or by remote control."""
        self._begin(worker.exitcode)

    def stop(self, worker: Any) -> None:
        """Wait for the drain; a cold shutdown cuts a warm one short."""
        if self._thread is None:
            return
        self._begin(worker.exitcode)
        assert self._drain is not None
        deadline = time.monotonic() + self._runtime.settings.drain_seconds
        while not self._drain.done() and time.monotonic() < deadline:
            if _is_cold():
                deadline = min(deadline, time.monotonic() + COLD_SECONDS)
            time.sleep(POLL_SECONDS)
        if not self._drain.done():
            logger.warning("The drain is cut short: its time is over", action="drain")
        elif (error := self._drain.exception()) is not None:
            logger.error("The drain failed", action="drain", exc_info=error)
        self._thread.end(COLD_SECONDS)

    terminate = stop

    def _on_signal(self, exitcode: int = 0, **_: Any) -> None:
        """Called in the signal handler. Celery itself takes leave of its broker before it stops this step, and a
        broker that is frozen or blocked would keep it from that."""
        self._begin(exitcode)

    def _begin(self, exitcode: int | None) -> None:
        if self._thread is None or not self._begun.acquire(blocking=False):
            return
        # The loop cancels what still runs at the end of the grace period: be done, and closed, before.
        grace = COLD_SECONDS if _is_cold() else self._runtime.settings.drain_seconds
        self._drain = self._thread.submit(self._runtime.stop(max(0.5, grace - 2.0)))
        threading.Thread(
            target=self._see_off, args=(self._drain, exitcode or 0), name="shutdown", daemon=True
        ).start()

    def _see_off(self, drain: Future[None], exitcode: int) -> None:
        """End the process where the main thread does not: it waits for a broker that does not answer."""
        self._consumer.call_soon(
            bool
        )  # it sleeps on through a signal, for up to a second, unless it is woken
        futures.wait([drain], self._runtime.settings.drain_seconds + END_SECONDS)
        drained = drain.done()
        time.sleep(END_SECONDS)  # normally the main thread ends the process meanwhile
        logger.warning(
            "The broker does not answer; the worker ends without closing its connection",
            action="drain",
            runs="handed back" if drained else "left to be rescued",
        )
        sys.stderr.flush()
        self._end_process(exitcode)


def register(app: Celery, runtime: Runtime) -> None:
    """Make workers of the application start `runtime`."""
    app.runyard_runtime = runtime
    app.steps["worker"].add(EngineStep)
    for command, reason in REFUSED.items():
        control.Panel.data[command] = partial(_refuse, reason)


def _refuse(reason: str, state: Any, **_: Any) -> dict[str, str]:
    return {"error": reason}


def _is_cold() -> bool:
    return state.should_terminate not in (None, False)
