"""The warm pool: child processes that have run an agent's code and wait to run it again.

A process belongs to one agent of one organisation for as long as it lives. It is given to another run only when the
last one returned or was suspended, and left nothing behind.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

import structlog

from runyard.authoring import AgentDefinition
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.tasks import Failure
from runyard_workers.agent_code.failures import AgentFailed
from runyard_workers.isolation import deaths
from runyard_workers.processes.process import AgentProcess, Code, Death
from runyard_workers.processes.wire import Message

logger = structlog.get_logger("runyard.processes")

#: How many processes wait for a run, and for how long, in seconds.
MOST_IDLE: Final = 8
IDLE_SECONDS: Final = 60.0
#: Runs of one process; and how often its memory at rest may multiply, beyond so many bytes, before it is replaced.
MOST_RUNS: Final = 200
_MOST_GROWTH: Final = 2
_GROWTH: Final = 64 * 2**20
#: What importing an agent's code may take, and what a process has to clean up after a run or to end, in seconds.
START_SECONDS: Final = 120.0
CLEANING_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Owner:
    """Whose a process is."""

    org_id: str
    agent: str


@dataclass(eq=False)
class _Idle:
    process: AgentProcess
    owner: Owner
    timer: asyncio.TimerHandle


class ProcessPool:
    """Create it on the loop, and `close` it there. As many processes run at once as runs ask for one."""

    def __init__(
        self,
        sources: tuple[str, ...] = (),
        most_idle: int = MOST_IDLE,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`sources` are what this process has loaded agents from."""
        self._sources = sources
        self._most_idle = most_idle
        self._idle_seconds = idle_seconds
        self._idle: deque[_Idle] = deque()  # the one that waits longest first
        self._all: set[AgentProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # A start computes: more at once than there are processors would delay them all.
        self._starting = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        self._gone = asyncio.Event()  # one of them is
        self._closed = False

    def __len__(self) -> int:
        return len(self._all)

    @property
    def idle(self) -> int:
        """Processes that wait for a run."""
        return len(self._idle)

    async def acquire(self, owner: Owner, definition: AgentDefinition) -> AgentProcess:
        """A process that has the agent's code; set what is called on its messages and its death.

        Raises `AgentFailed` where none starts or the code cannot be loaded.
        """
        for idle in reversed(self._idle):
            if idle.owner == owner and idle.process.alive:
                self._idle.remove(idle)
                idle.timer.cancel()
                return idle.process
        # In a task, and an empty context, of its own: a start that its run does not wait for is the next run's.
        starting = asyncio.get_running_loop().create_task(
            self._start(Code.of(definition, self._sources)), context=Context()
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(lambda started: self._keep_started(started, owner))
            raise

    def release(self, process: AgentProcess, owner: Owner, reusable: bool) -> None:
        """The run is over: keep its process for the next, once it is clean, or end it."""
        process.served += 1
        process.reset()
        if not reusable or process.served >= MOST_RUNS or not process.alive or self._closed:
            process.kill()
            return
        cleaned: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        def on_message(message: Message) -> None:
            if message[0] == "clean" and not cleaned.done():
                cleaned.set_result(message[1])
            elif message[0] == "call":
                process.send("error", message[1], ("cancelled", "the run is over"), ())

        process.on_message = on_message
        process.send("release")
        self._do(self._clean(process, owner, cleaned))

    async def close(self) -> None:
        """End every process now."""
        self._closed = True
        for idle in self._idle:
            idle.timer.cancel()
        self._idle.clear()
        for process in self._all:
            process.kill()
        try:
            async with asyncio.timeout(CLEANING_SECONDS):
                while self._all:
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            logger.warning("Processes of agents do not end", action="process", processes=len(self._all))
        for task in list(self._tasks):
            task.cancel()

    # -- a start -------------------------------------------------------------------------------------------

    async def _start(self, code: Code) -> AgentProcess:
        async with self._starting:
            return await self._started(code)

    def _keep_started(self, started: asyncio.Task[AgentProcess], owner: Owner) -> None:
        if not started.cancelled() and started.exception() is None:
            self._keep(started.result(), owner)

    async def _started(self, code: Code) -> AgentProcess:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[Message] = loop.create_future()

        def on_message(message: Message) -> None:
            if not ready.done():
                ready.set_result(message)

        def on_death(death: Death) -> None:
            if not ready.done():
                how = deaths.described(death.status, death.out_of_memory)
                ready.set_result(("ended", f"{how}\n{death.stack}".strip()))

        process = AgentProcess(self._forget)
        process.on_message, process.on_death = on_message, on_death
        try:
            async with asyncio.timeout(START_SECONDS):
                await process.start(code)
                self._all.add(process)
                message = await ready
        except TimeoutError:
            message = ("late", f"its code was not loaded within {START_SECONDS:g} s")
        except OSError as error:
            message = ("refused", f"the system refuses it: {error.strerror}")
        process.reset()
        if message[0] == "ready":
            process.memory_at_rest = process.resident
            return process
        process.kill()
        raise AgentFailed(_not_started(message))

    # -- after a run ---------------------------------------------------------------------------------------

    async def _clean(self, process: AgentProcess, owner: Owner, cleaned: asyncio.Future[str | None]) -> None:
        left: str | None
        try:
            async with asyncio.timeout(CLEANING_SECONDS):
                left = await cleaned
        except TimeoutError:
            left = "a task or thread that does not end"
        if left is None:
            grown = process.resident - process.memory_at_rest
            if grown > max(_GROWTH, (_MOST_GROWTH - 1) * process.memory_at_rest):
                left = f"{grown // 2**20} MiB of memory"
        if left is not None:
            logger.info(
                "A process is not given to another run: the agent's code has left something in it",
                action="process", agent=owner.agent, left=left,
            )  # fmt: skip
            process.kill()
        else:
            self._keep(process, owner)

    def _keep(self, process: AgentProcess, owner: Owner) -> None:
        process.reset()
        if self._closed or not process.alive:
            process.kill()
            return
        idle = _Idle(
            process,
            owner,
            _later(self._idle_seconds, lambda: self._finish(idle)),
        )
        self._idle.append(idle)
        while len(self._idle) > self._most_idle:
            self._finish(self._idle[0])

    def _finish(self, idle: _Idle) -> None:
        """Let a process end in order: what its libraries have registered for that is called."""
        if idle in self._idle:
            idle.timer.cancel()
            self._idle.remove(idle)
            idle.process.send("finish")
            _later(CLEANING_SECONDS, idle.process.kill)

    def _forget(self, process: AgentProcess) -> None:
        self._all.discard(process)
        self._gone.set()
        for idle in [one for one in self._idle if one.process is process]:
            idle.timer.cancel()
            self._idle.remove(idle)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        # In an empty context: it does not belong to the run that has ended.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _later(seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call, context=Context())


def _not_started(message: Message) -> Failure:
    reason = str(message[1])[:2000]
    if message[0] == "broken":
        return Failure("agent_not_loadable", reason, Cause.AGENT)
    return Failure(
        "process_not_started", f"The agent's process did not start: {reason}", Cause.INFRASTRUCTURE, True
    )
