"""What a run's code does concurrently with a call that suspends the run: it gets as far as it can first.

A run that waits leaves its process, and its other coroutines end with it. So that questions and children of one
`gather` are asked and started together, the call that suspends waits until the others have *settled*: no context call
of theirs is served by the engine, no plain function of theirs is in a thread, no irreversible step is open, and none
of their coroutines can run. A coroutine that waits for something outside (a timer, a socket) has settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet, ref

from runyard import branches
from runyard.turns import STAND_INS

#: Turns of the loop in which nothing can run before that counts. A result takes some to pass from task to task
#: through `gather`, `shield` or `wait_for`, and no task can run in those.
_QUIET_TURNS: Final = 5
#: Turns that a coroutine gets which never waits (``while not done: await asyncio.sleep(0)``).
_MOST_TURNS: Final = 200
#: Steps around this code that are let end; a call inside one cannot wait for it.
_enclosing: ContextVar[int] = ContextVar("runyard_enclosing_steps", default=0)


class Siblings:
    """The coroutines and calls of one attempt's code. Every method belongs to the loop's thread.

    Most runs have one coroutine and suspend nothing: what only others need is made when they come to need it.
    """

    __slots__ = (
        "_ended",
        "_first",
        "_others",
        "_quiet",
        "_served",
        "_settled",
        "_turns",
        "_waiters",
        "_watched",
    )

    def __init__(self) -> None:
        self._first: ref[asyncio.Task[Any]] | None = None
        self._others: WeakSet[asyncio.Task[Any]] | None = None
        self._settled: set[asyncio.Task[Any] | None] | None = None  # those that suspend the run themselves
        self._served = 0
        self._ended: asyncio.Event | None = None  # a served call has ended
        self._watched = False  # one of those that settle looks whether all have
        self._waiters: list[asyncio.Future[bool]] = []  # the others
        self._turns = self._quiet = (
            0  # of the loop, since the last of them came; of these, with nothing to run
        )

    def add(self, task: asyncio.Task[Any]) -> None:
        """This task runs the attempt's code."""
        if self._first is None:
            self._first = ref(task)
        elif self._first() is not task:
            if self._others is None:
                self._others = WeakSet()
            self._others.add(task)

    @property
    def several(self) -> bool:
        """Whether more than one task runs the attempt's code: one that waits for another which asks for it is none."""
        return self._others is not None and any(
            not task.done() and task not in STAND_INS for task in self._others
        )

    @property
    def has_others(self) -> bool:
        """Whether tasks that the code has started go on beside the one that asks."""
        return self._others is not None and branches.any_other(self._others)

    def _tasks(self) -> set[asyncio.Task[Any]]:
        first = None if self._first is None else self._first()
        found = set() if self._others is None else set(self._others)
        return found if first is None else found | {first}

    @contextmanager
    def served(self, calls: int = 1) -> Generator[None]:
        """Inside, the engine or a thread works for the code, and will come to an end by itself."""
        self._count(calls)
        try:
            yield
        finally:
            self._count(-calls)

    def _count(self, calls: int) -> None:
        self._served += calls
        if self._ended is not None:
            self._ended.set()

    def outside(self) -> Any:
        """Inside, a served call is the author's code, or waits for others' calls."""
        return self.served(-1)

    @contextmanager
    def irreversible(self) -> Generator[None]:
        """Inside, the code of an irreversible step, a model turn or a tool call runs: it is let end."""
        token = _enclosing.set(_enclosing.get() + 1)
        try:
            yield
        finally:
            _enclosing.reset(token)

    @property
    def none(self) -> bool:
        """Whether there is no rest of the code, but what waits for the coroutine that asks."""
        return all(task.done() for task in self._rest())

    def _rest(self) -> set[asyncio.Task[Any]]:
        first = None if self._first is None else self._first()
        return {task for task in self._tasks() if task is not asyncio.current_task() and task is not first}

    async def settle(self) -> None:
        """Return when all the rest of the code has got as far as it can."""
        me = asyncio.current_task()
        settled = self._settled = self._settled if self._settled is not None else set()
        settled.add(me)
        self._turns = self._quiet = 0  # what has just run may have woken others
        try:
            # The steps around this call wait for it: neither do they hold up others that settle.
            with self.served(-1 - _enclosing.get()):
                # One looks for all that settle: thousands that each looked at all the others would take minutes.
                while self._watched:
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    if await waiter:
                        return
                await self._watch(settled)
        finally:
            settled.discard(me)

    async def _watch(self, settled: set[asyncio.Task[Any] | None]) -> None:
        """Return, with all that settle meanwhile, when there is nothing left that can run."""
        self._watched, done = True, False
        ended = self._ended = self._ended or asyncio.Event()
        try:
            while self._turns < _MOST_TURNS:
                self._turns += 1
                while self._served > 0:
                    self._quiet = 0
                    ended.clear()
                    await ended.wait()
                self._quiet = 0 if any(map(_can_run, self._tasks() - settled)) else self._quiet + 1
                if self._quiet > _QUIET_TURNS:
                    break
                await asyncio.sleep(0)
            done = True
        finally:
            self._watched = False
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(done)  # else another of them looks


def _can_run(task: asyncio.Task[Any]) -> bool:
    """Whether the loop will resume the task before anything else has to happen."""
    waiter = getattr(task, "_fut_waiter", None)  # asyncio has no public name for it; anyio relies on it too
    return not task.done() and (waiter is None or waiter.done())
