"""The program of a child process: it runs one agent's function, for one run after the other, and ends with its worker.

It has the worker's environment without Runyard's settings, and of its descriptors the three standard ones and a socket.
The agent's code has the main thread, with the signals, the event loop policy and the start method of `multiprocessing`
that any program of Python has.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import signal
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from runyard.authoring import AgentDefinition
from runyard_common import tracing
from runyard_common.process import log_at_last
from runyard_workers.agent_code import run_output
from runyard_workers.agent_code.run_output import LONGEST_LINE, Lines
from runyard_workers.isolation import orders
from runyard_workers.isolation.deaths import end_with_parent
from runyard_workers.processes import declared, limits, wire
from runyard_workers.processes.code import CodeRun
from runyard_workers.processes.contexts import Start
from runyard_workers.processes.leftovers import Leftovers
from runyard_workers.processes.wire import Frames, Message

#: How much sooner than its worker the kernel kills this process where memory runs out, of 1000.
_SOONER: Final = 300
_READ: Final = 2**16
#: What the end of a run waits for a collector at most, in seconds.
_LAST_SPANS: Final = 0.5


class _Output(Lines):
    """Sends what a run prints and logs to its attempt, as far as that may keep it."""

    __slots__ = ("_left", "_run")

    def __init__(self, run: CodeRun, left: int) -> None:
        super().__init__()
        self._run = run
        self._left = left + 1  # the attempt notes that there are more

    def line(self, source: str, level: str, text: str, name: str | None = None) -> None:
        """See `Lines`."""
        if self._closed or self._left <= 0 or not text.strip():
            return
        self._left -= 1
        self._run.calls.send("line", source, level, text[: LONGEST_LINE + 1], name)


class Child:
    """The process: messages are read by a thread, the code runs in the main one."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._pid = os.getpid()
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._run: CodeRun | None = None
        os.register_at_fork(after_in_child=self._forked)

    def serve(self, definition: AgentDefinition) -> None:
        """Run what is sent until there is no more."""
        before = Leftovers()
        self._send_message("ready")
        while (message := self._inbox.get())[0] != "finish":
            if message[0] == "run":
                busy = self._execute(definition, message[1])
                left = f"{busy} tasks or threads that do not end" if busy else before.found()
                self._send_message("clean", left)

    def refuse(self, reason: str) -> None:
        """The code cannot be loaded."""
        self._send_message("broken", reason)

    def listen(self) -> None:
        """Begin to read messages."""
        threading.Thread(target=self._read, name="runyard-messages", daemon=True).start()

    def _execute(self, definition: AgentDefinition, start: Start) -> int:
        """One run, until it is released; how many of its tasks and threads go on all the same."""
        limits.set_backstops(start.memory_mb, start.cpu_seconds)
        run = self._run = CodeRun(definition, start, self._send)
        output = token = None
        if start.lines_before is not None:
            output = _Output(run, start.bounds.events - start.lines_before)
            token = output.attach()
        run.before_end = partial(_before_end, output)
        try:
            run.execute()
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # a child that the code forked, and that came back
            if output is not None and token is not None:
                output.end(token)
        while self._inbox.get()[0] != "release":
            pass
        self._run = None
        busy = run.close()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        return busy

    def _read(self) -> None:
        frames = Frames(2**32)
        while True:
            try:
                data = self._socket.recv(_READ)
            except OSError:
                data = b""
            if not data:
                os.killpg(0, signal.SIGKILL)  # the worker is gone, and with it what the code works for
            for text in frames.feed(data):
                self._receive(pickle.loads(text))  # noqa: S301 - the worker is trusted

    def _receive(self, message: Message) -> None:
        run = self._run
        if message[0] in ("run", "release", "finish"):
            self._inbox.put(message)
        elif run is not None and message[0] == "leaving":
            run.calls.leave(message[1])
        elif run is not None and message[0] == "cancel":
            run.cancel(message[1])
        elif run is not None:
            try:
                run.answer(message)
            except RuntimeError:
                pass  # the loop of the call is closed

    def _send(self, text: bytes) -> None:
        if os.getpid() == self._pid:  # what the code has forked has no worker
            self._socket.sendall(wire.framed(text))

    def _send_message(self, *message: Any) -> None:
        self._send(pickle.dumps(message, 5))

    def _forked(self) -> None:
        self._socket.close()


def main(given: str) -> None:
    """Run until the worker has no more to run, or is gone."""
    options: dict[str, Any] = json.loads(given)
    end_with_parent(options["parent"])
    orders.protect(options["parent"])
    _prepare(options["stack"])
    sock = socket.socket(fileno=options["socket"])
    sock.set_inheritable(False)
    child = Child(sock)
    child.listen()
    run_output.install()
    try:
        definition = declared.definition(
            options["agent"], options["module"], options["file"], options["sources"]
        )
    except declared.NotFound as missing:
        child.refuse(str(missing))
        sys.exit(1)
    tracing.start("runyard-agent")
    if (recorder := tracing.active()) is not None:
        recorder.serve_authors()
    child.serve(definition)


def _before_end(output: _Output | None) -> None:
    """Send what the code has printed, and its spans: the process may be ended next."""
    if output is not None:
        output.finish()
    if (recorder := tracing.active()) is not None:
        recorder.flush(_LAST_SPANS)


def _prepare(stack: int) -> None:
    os.set_inheritable(stack, False)
    faulthandler.enable(stack, all_threads=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker in the background has it ignored
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    log_at_last(sys.stderr)
    sys.argv = [""]
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + _SOONER)))
    except (OSError, ValueError):
        pass  # another system
