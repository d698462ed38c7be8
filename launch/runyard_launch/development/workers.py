"""The workers of `runyard dev`: one that serves, those before it whose runs go on, and the next, ready to load.

A reload replaces a worker, and nothing else. The next worker has imported all of Runyard ahead, so that it takes what
the author's own modules take; they are imported there first, so that code which cannot be imported ends no worker that
serves. Every method belongs to the main thread, but for what receives messages.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
import traceback
import warnings
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Final, Protocol

from runyard_common import development
from runyard_common.development import DEVELOPMENT_FD, Connection, Message
from runyard_launch.supervisor.children import CALM_SECONDS, FIRST_DELAY, LONGEST_DELAY, Child, Spec
from runyard_launch.supervisor.supervisor import Supervisor

#: Seconds after which an import that goes on is mentioned.
_SLOW_IMPORT: Final = 10.0


class Stage(Enum):
    """How far a worker is: each leads to the next."""

    PREPARED = auto()  # imports Runyard's modules, and waits
    ASKED = auto()  # is to load the agents as soon as it can
    LOADING = auto()  # imports them
    STARTING = auto()  # was asked to serve
    SERVING = auto()
    LEAVING = auto()  # claims nothing more; its runs go on


class Shown(Protocol):
    """Where the author sees what happens."""

    def reloading(self, changed: list[Path]) -> None:
        """These files have changed, and the agents are imported again."""

    def broken(self, problems: list[Message], serves: bool) -> None:
        """Agents cannot be imported; `serves`: the worker before goes on."""

    def empty(self, sources: list[str], serves: bool) -> None:
        """The sources declare no agent."""

    def serving(self, agents: list[list[str]], seconds: float | None) -> None:
        """A worker serves these agents (name, version), so many seconds after the change."""

    def leaving(self, runs: int) -> None:
        """The worker before has so many runs, which go on with the code that they began with."""

    def ended(self, why: str, lines: list[str], again_in: float | None) -> None:
        """A worker has ended by itself."""

    def note(self, text: str) -> None:
        """A remark."""

    def output(self, message: Message) -> None:
        """What a module printed while it was imported."""

    def event(self, message: Message) -> None:
        """An event of a run."""


@dataclass(eq=False)
class Worker:
    """One worker's process, and how far it is."""

    child: Child
    connection: Connection
    stage: Stage = Stage.PREPARED
    agents: list[list[str]] = field(default_factory=list)
    files: frozenset[str] = frozenset()  # that its modules were imported from
    began: float = field(default_factory=time.monotonic)  # its present stage


class Workers:
    """Create it before the supervisor runs; `begin` once the broker is there."""

    def __init__(self, supervisor: Supervisor, spec: Spec, shown: Shown) -> None:
        """`spec` is how a worker starts."""
        self._supervisor = supervisor
        self._spec = spec
        self._shown = shown
        self._workers: list[Worker] = []
        self._messages: queue.SimpleQueue[tuple[Worker, Message]] = queue.SimpleQueue()
        self._changes: queue.SimpleQueue[list[Path]] = queue.SimpleQueue()
        self._heavy: list[str] = []  # what a worker imports ahead besides Runyard's own
        self._wanted = False  # the agents are to be loaded by the next worker
        self._changed_at: float | None = None
        self._again_at: float | None = None  # when a worker that ended by itself is replaced
        self._delay = FIRST_DELAY
        self._mentioned = False
        supervisor.on_look = self._look

    @property
    def settled(self) -> bool:
        """Whether a worker serves, or none will until a file is saved."""
        return self._serving is not None or not (
            self._wanted or self._again_at or self._at(Stage.ASKED, Stage.LOADING, Stage.STARTING)
        )

    @property
    def agents(self) -> list[list[str]]:
        """The agents that are served: name, version."""
        return self._serving.agents if self._serving is not None else []

    def begin(self) -> None:
        """Start the first worker."""
        self._wanted = True
        self._prepare()

    def change(self, files: list[Path]) -> None:
        """These files have changed. From any thread."""
        self._changes.put(files)
        self._supervisor.wake()

    # -- one after the other ---------------------------------------------------------------------------------

    @property
    def _serving(self) -> Worker | None:
        return self._at(Stage.SERVING)

    def _at(self, *stages: Stage) -> Worker | None:
        return next((worker for worker in self._workers if worker.stage in stages), None)

    def _look(self) -> None:
        while not self._messages.empty():
            self._receive(*self._messages.get())
        files: set[Path] = set()
        while not self._changes.empty():
            files.update(self._changes.get())
        if files:
            self._reload(sorted(files))
        if self._again_at is not None and time.monotonic() >= self._again_at:
            self._again_at, self._wanted = None, True
        busy = self._at(Stage.ASKED, Stage.LOADING, Stage.STARTING)
        if self._wanted and busy is None and (prepared := self._at(Stage.PREPARED)):
            self._wanted = False
            self._move(prepared, Stage.ASKED)
            prepared.connection.send(development.LOAD)
        loading = self._at(Stage.LOADING)
        if loading is not None and time.monotonic() - loading.began > _SLOW_IMPORT and not self._mentioned:
            self._mentioned = True
            self._shown.note(f"The agents' modules are still being imported, after {_SLOW_IMPORT:g} s.")

    def _reload(self, files: list[Path]) -> None:
        self._shown.reloading(files)
        self._changed_at = time.monotonic()
        serving = self._serving
        if serving is not None:  # no worker has to be tried, and the next one is ready when it is corrected
            refused = [
                found for path in files if str(path) in serving.files and (found := syntax_error(path))
            ]
            if refused:
                self._shown.broken(refused, serves=True)
                return
        self._again_at, self._delay = None, FIRST_DELAY
        self._wanted = self._at(Stage.ASKED) is None  # that one reads what is there when it begins
        if (loading := self._at(Stage.LOADING)) is not None:  # it may have read some files before
            self._discard(loading)
        self._have_one_prepared()

    def _have_one_prepared(self) -> None:
        if self._at(Stage.PREPARED, Stage.ASKED) is None:
            self._prepare()

    def _prepare(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            env = {**(self._spec.env or {}), DEVELOPMENT_FD: str(theirs.fileno())}
            spec = replace(self._spec, env=env, fds=(*self._spec.fds, theirs.fileno()), on_end=self._ended)
            worker = Worker(self._supervisor.adopt(spec), Connection(ours))
        self._workers.append(worker)
        worker.connection.send(development.PREPARE, modules=self._heavy)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()

    def _listen(self, worker: Worker) -> None:
        for message in worker.connection.received():
            self._messages.put((worker, message))
            self._supervisor.wake()

    def _move(self, worker: Worker, stage: Stage) -> None:
        worker.stage, worker.began = stage, time.monotonic()

    # -- what workers report ---------------------------------------------------------------------------------

    def _receive(self, worker: Worker, message: Message) -> None:
        if message.get("left_out"):
            self._shown.note(f"{message['left_out']} lines are only in the worker's log and in their runs.")
        match message["kind"]:
            case development.LOADING if worker.stage is Stage.ASKED:
                self._move(worker, Stage.LOADING)
            case development.LOADED if worker.stage is Stage.LOADING:
                self._loaded(worker, message)
            case development.SERVES if worker.stage is Stage.STARTING:
                self._serves(worker, message)
            case development.LEAVES if message["runs"]:
                self._shown.leaving(message["runs"])
            case development.OUTPUT:
                self._shown.output(message)
            case development.EVENT:
                self._shown.event(message)

    def _loaded(self, worker: Worker, message: Message) -> None:
        self._heavy, self._mentioned = message["modules"], False
        before, worker.agents = self._serving, message["agents"]
        worker.files = frozenset(message["files"])
        if message["broken"]:
            self._shown.broken(message["broken"], before is not None)
        elif not worker.agents:
            self._shown.empty(message["empty"], before is not None)
        if not worker.agents or (message["broken"] and before is not None):
            self._discard(worker)
            self._have_one_prepared()  # for the next save
            return
        if (
            before is not None
        ):  # before the next one claims: no run begins with the code of before from here on
            self._move(before, Stage.LEAVING)
            before.connection.send(development.LEAVE)
        self._move(worker, Stage.STARTING)
        worker.connection.send(development.SERVE)

    def _serves(self, worker: Worker, message: Message) -> None:
        self._move(worker, Stage.SERVING)
        changed_at, self._changed_at = self._changed_at, None
        self._shown.serving(worker.agents, None if changed_at is None else time.monotonic() - changed_at)
        for reason in message["refused"]:
            self._shown.note(f"Not published: {reason}")
        self._have_one_prepared()  # once this one serves: the processor was its own

    def _discard(self, worker: Worker) -> None:
        """End one that serves nothing."""
        self._workers.remove(worker)
        worker.connection.close()
        if worker.child.process is not None:
            worker.child.process.kill()

    def _ended(self, child: Child, code: int) -> None:
        self._supervisor.forget(child)
        worker = next((one for one in self._workers if one.child is child), None)
        if worker is None:
            return
        self._workers.remove(worker)
        worker.connection.close()
        if worker.stage is Stage.LEAVING and code == 0:
            return
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        again = None
        if worker.stage in (Stage.STARTING, Stage.SERVING):
            if child.lived > CALM_SECONDS:
                self._delay = FIRST_DELAY
            again, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY)
            self._again_at = time.monotonic() + again
        elif worker.stage in (Stage.PREPARED, Stage.ASKED):
            self._wanted = False  # the next one would end, too: the next save starts it
        self._shown.ended(why, child.last_lines(8), again)
        if worker.stage not in (Stage.PREPARED, Stage.ASKED):
            self._have_one_prepared()


def syntax_error(path: Path) -> Message | None:
    """Why Python cannot read a file, as a worker would report it; None where it can, or the file is no code."""
    if path.suffix != ".py":
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        *place, last = "".join(traceback.format_exception_only(error)).rstrip().splitlines()
        return {"problem": f"{path.name}: {last}", "traceback": "\n".join([last, *place])}
    except OSError:
        pass  # removed again
    return None
