"""Threads for blocking code: made on demand up to a limit, never in the way of an exit; and those of the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Call:
    future: Future[Any]
    run: Callable[[], Any]

    def make(self, finished: Callable[[], None]) -> None:
        """Run it; `finished` comes before the result is out, so that its receiver finds a free thread."""
        if not self.future.set_running_or_notify_cancel():
            finished()
            return
        try:
            result = self.run()
        except BaseException as error:  # noqa: BLE001 - the caller that waits for the future gets it, exits included
            finished()
            # An asyncio future refuses a StopIteration: what awaits this one would never wake.
            stop = isinstance(error, StopIteration)
            self.future.set_exception(RuntimeError("the thread raised StopIteration") if stop else error)
        else:
            finished()
            self.future.set_result(result)


class DaemonThreads(ThreadPoolExecutor):
    """An executor of up to `limit` threads.

    The standard executor joins its threads when the interpreter exits, so that one stuck call holds up a cold
    shutdown for as long as it likes; here threads are daemons. It is a
    `ThreadPoolExecutor` in name because `loop.set_default_executor` insists on one.
    """

    def __init__(self, limit: int, name: str) -> None:
        super().__init__(max_workers=limit, thread_name_prefix=name)
        self._limit = limit
        self._name = name
        self._mutex = threading.Lock()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._load = 0  # calls queued or running: threads are made until there is one for each, or the limit
        self._workers: set[threading.Thread] = set()
        self._closed = False

    @property
    def size(self) -> int:
        """Threads alive now."""
        return len(self._workers)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue `fn(*args, **kwargs)`. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._mutex:
            if self._closed:
                raise RuntimeError(f"the {self._name} threads have been shut down")
            self._load += 1
            self._calls.put(_Call(future, lambda: fn(*args, **kwargs)))
            if self._load > len(self._workers) and len(self._workers) < self._limit:
                self._hire()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; `wait` for those made, or with `cancel_futures` only for those begun."""
        with self._mutex:
            self._closed = True
            workers = list(self._workers)
        if cancel_futures:
            self._cancel_queued()
        for _ in workers:
            self._calls.put(None)
        if wait:
            for worker in workers:
                worker.join()

    def _hire(self) -> None:
        worker = threading.Thread(target=self._work, name=f"{self._name}-{len(self._workers)}", daemon=True)
        self._workers.add(worker)
        worker.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make(self._finished)
            del call  # an idle thread keeps no result alive
        with self._mutex:
            self._workers.discard(threading.current_thread())

    def _finished(self) -> None:
        with self._mutex:
            self._load -= 1

    def _cancel_queued(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except Empty:
                return
            if call is not None:
                call.future.cancel()
                self._finished()


# The threads for the engine's own blocking calls: short ones to the database, the files and the broker. Agents have
# theirs: however many of those hang, the engine reads, enlists and drains.
_threads = DaemonThreads(8, "engine")
#: For long answers of others, which the engine's own calls do not wait behind.
_readers = DaemonThreads(2, "answers")


async def in_engine_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `fn(*args, **kwargs)` in one of the engine's threads. A cancelled caller stops waiting at once."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(fn, *args, **kwargs))


async def in_reader_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_engine_thread`, for reading what others have sent: it may take seconds, and two are read at a time."""
    return await asyncio.get_running_loop().run_in_executor(_readers, partial(fn, *args, **kwargs))
