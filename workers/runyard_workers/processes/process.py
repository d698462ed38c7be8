"""One child process as its worker sees it: messages both ways over a socket pair, and its death."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from runyard.authoring import AgentDefinition
from runyard_common.environment import OF_CLIENTS
from runyard_common.settings import PREFIX
from runyard_common.spawning import started
from runyard_workers.isolation.deaths import out_of_memory_kills
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.processes import wire
from runyard_workers.processes.limits import resident
from runyard_workers.processes.wire import Frames, Message

logger = structlog.get_logger("runyard.processes")

#: What messages of a process that has ended have to come in, in seconds: a process of its own may keep the socket open.
_LAST_SECONDS: Final = 0.5
_LONGEST_STACK: Final = 16_000
#: Nothing of the folder that the process is started in may hide a module before its path is set.
_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; from runyard_workers.processes.child import main; main({given!r})"
)


@dataclass(frozen=True)
class Code:
    """Where a child process finds an agent: the module that declares it, else everything the worker has loaded."""

    agent: str  # name@version
    module: str
    file: str
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, definition: AgentDefinition, sources: tuple[str, ...] = ()) -> Code:
        """Where `definition` was declared."""
        place = definition.place
        return cls(definition.versioned, place.module if place else "", place.file if place else "", sources)


@dataclass(frozen=True)
class Death:
    """How a process ended: its exit code, or a signal's number as a negative one, and the stack that a crash wrote."""

    status: int
    out_of_memory: bool
    stack: str
    #: What it sent that is no message, for which its worker has killed it.
    garbage: str | None = None


class AgentProcess(asyncio.Protocol):
    """Every method but `kill` belongs to the loop's thread."""

    def __init__(self, on_gone: Callable[[AgentProcess], None]) -> None:
        """Start it by `start`. What it calls it calls on the loop; `on_gone` when it is dead."""
        self._on_gone = on_gone
        self.reset()
        self.served = 0  # runs
        self.memory_at_rest = 0  # bytes, before its first run
        self.death: Death | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._garbage: str | None = None
        self._ended_sending = asyncio.Event()
        self._transport: asyncio.WriteTransport | None = None

    async def start(self, code: Code) -> None:
        """Start the process; it sends `ready`, or `broken` with the reason, once it has the agent's code."""
        self._oom_before = out_of_memory_kills()
        mine, its = socket.socketpair()
        self._stack = _memory_file()
        try:
            self._process = await in_engine_thread(_started, code, its.fileno(), self._stack)
        except BaseException:
            mine.close()
            raise
        finally:
            its.close()
        mine.setblocking(False)
        threading.Thread(target=self._wait, name="agent-process", daemon=True).start()
        await self._loop.create_unix_connection(lambda: self, sock=mine)

    def reset(self) -> None:
        """Forget what messages and the process's death were for."""
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_death: Callable[[Death], None] = lambda death: None
        #: Makes what represents a function of the code that a message refers to.
        self.function: Callable[[int], Any] = _no_function

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group's."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self.death is None and not self._ended_sending.is_set()

    @property
    def resident(self) -> int:
        """Bytes of memory that it has now."""
        return resident(self.pid)

    def send(self, *message: Any) -> None:
        """Send one message; a process that is gone gets none."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.framed(pickle.dumps(message, 5)))

    def kill(self) -> None:
        """End it now, and what it has started in its group. Safe to call from any thread."""
        if self._process is not None and self.death is None:
            _kill_group(self._process.pid)

    # -- called by the loop --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            for text in self._frames.feed(data):
                self.on_message(wire.read(text, self.function))
        except (ValueError, pickle.UnpicklingError) as error:
            self._garbage = str(error)[:200]
            logger.warning(
                "A process of an agent sent what is no message", action="process", error=self._garbage
            )
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._ended_sending.set()

    # -- its end -------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        if hasattr(os, "waitid"):
            # Its group goes with it, before its id can be another's.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            _kill_group(self.pid)
        assert self._process is not None
        status = self._process.wait()
        stack = os.pread(self._stack, _LONGEST_STACK, 0).decode(errors="replace")
        os.close(self._stack)
        oom = status == -signal.SIGKILL and out_of_memory_kills() > self._oom_before
        try:
            self._loop.call_soon_threadsafe(self._died, Death(status, oom, stack))
        except RuntimeError:
            pass  # the loop is closed: the worker is at its end

    def _died(self, death: Death) -> None:
        death = self.death = replace(death, garbage=self._garbage)
        self._settling = self._loop.create_task(
            self._settle(death), name="agent-process-death", context=Context()
        )

    async def _settle(self, death: Death) -> None:
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._ended_sending.wait()
        except TimeoutError:
            pass
        if self._transport is not None:
            self._transport.abort()
        self._on_gone(self)
        self.on_death(death)


def _started(code: Code, descriptor: int, stack: int) -> subprocess.Popen[bytes]:
    given = {
        "agent": code.agent, "module": code.module, "file": code.file, "sources": list(code.sources),
        "socket": descriptor, "stack": stack, "parent": os.getpid(),
    }  # fmt: skip
    program = _PROGRAM.format(path=[path for path in sys.path if path], given=json.dumps(given))
    # What it prints goes where the worker's output goes. A group of its own: a terminal's Ctrl-C is for the worker.
    return started(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor, stack),
        env=environment(os.environ),
        start_new_session=True,
    )


def environment(of_worker: Any) -> dict[str, str]:
    """The worker's environment without its settings: no address, key or password of the installation's."""
    return {
        name: value for name, value in of_worker.items() if not name.startswith(PREFIX) or name in OF_CLIENTS
    }


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # it is gone


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("runyard-stack")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _no_function(number: int) -> Any:
    raise pickle.UnpicklingError("no run is under way whose functions could be called")
