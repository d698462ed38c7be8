"""Threads for agents' blocking code, which know for whose run each of them works.

A thread cannot be stopped: when its run is over it works on, and is a thread less for the others until it returns.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog

from runyard_workers.isolation.forks import end_if_forked
from runyard_workers.isolation.loop_guard import RUN
from runyard_workers.isolation.threads import DaemonThreads

logger = structlog.get_logger("runyard.threads")

P = ParamSpec("P")
T = TypeVar("T")


def _in_this_process(call: Callable[[], T]) -> T:
    try:
        return call()
    finally:
        end_if_forked()


class RunThreads(DaemonThreads):
    """An executor; calls made on behalf of a run (`loop_guard.RUN`) are kept account of until they return."""

    def __init__(self, limit: int, name: str = "blocking") -> None:
        super().__init__(limit, name)
        self._account = threading.Lock()
        self._by_run: dict[str, set[Future[Any]]] = defaultdict(set)

    def of(self, run: str) -> list[Future[Any]]:
        """The calls of this run that have not returned."""
        with self._account:
            return list(self._by_run.get(run, ()))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue `fn(*args, **kwargs)`. Raises RuntimeError after `shutdown`."""
        run = RUN.get()
        future = super().submit(_in_this_process, partial(fn, *args, **kwargs))
        if run is not None:
            with self._account:
                self._by_run[run].add(future)
            future.add_done_callback(lambda done: self._returned(run, done))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads. Their owner cancels what is queued; `loop.shutdown_default_executor()` in an agent does
        not, and would take them from every other run."""
        if cancel_futures:
            super().shutdown(wait, cancel_futures=True)
        else:
            logger.warning("An agent tried to shut down the worker's threads", action="shutdown")

    def _returned(self, run: str, future: Future[Any]) -> None:
        with self._account:
            calls = self._by_run.get(run)
            if calls is not None:
                calls.discard(future)
                if not calls:
                    del self._by_run[run]
