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


@dataclass
class Changes:
    """Saves that a worker loads, or that the next one will."""

    since: float  # of the first
    files: dict[Path, None] = field(default_factory=dict)


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

    def ended(self, why: str, lines: list[str], again_in: float | None, serves: bool) -> None:
        """A worker has ended by itself. `serves`: another one serves."""

    def ended_at_import(self, files: list[Path], why: str, serves: bool) -> None:
        """A process has ended while it imported the agents, after these files had changed; none: at the start."""

    def without_code(self, runs: list[Message]) -> None:
        """Runs that cannot go on, as no code here has their agent in that version."""

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
    changes: Changes | None = None  # that it loads; None: it loads for another reason


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
        self._stuck: set[str] = set()  # runs that no code is there for, as shown
        self._changed: Changes | None = None  # saves that no worker has begun to load
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
        self._changed = self._changed or Changes(time.monotonic())
        self._changed.files |= dict.fromkeys(files)
        # One that loads goes on and serves, though it may have read some files before: who saves every few seconds
        # would never be served else. The next one follows it.
        loading = self._at(Stage.LOADING)
        if loading is not None and time.monotonic() - loading.began > _SLOW_IMPORT:  # it may never end
            self._restore_changes(loading)
            self._discard(loading)
        self._have_one_prepared()

    def _restore_changes(self, loading: Worker) -> None:
        """What this one was to load is for the next."""
        if loading.changes is not None:
            later = self._changed.files if self._changed is not None else {}
            self._changed = Changes(loading.changes.since, loading.changes.files | later)

    def _have_one_prepared(self) -> None:
        """The next worker, but not while another needs the processor to load: it has one prepared once it serves."""
        if self._at(Stage.PREPARED, Stage.ASKED, Stage.LOADING, Stage.STARTING) is None:
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
                worker.changes, self._changed = self._changed, None
            case development.LOADED if worker.stage is Stage.LOADING:
                self._loaded(worker, message)
            case development.SERVES if worker.stage is Stage.STARTING:
                self._serves(worker, message)
            case development.LEAVES:
                if message["runs"]:
                    self._shown.leaving(message["runs"])
                self._check()  # its agents count no more
            case development.WITHOUT_CODE if worker.stage is Stage.SERVING:
                self._without_code(message["runs"])
            case development.OUTPUT:
                self._shown.output(message)
            case development.EVENT:
                self._shown.event(message)

    def _check(self) -> None:
        """Have the worker that serves look for runs that it has no code for; it does so as it begins, too."""
        if (serving := self._serving) is not None:
            serving.connection.send(development.CHECK)

    def _without_code(self, runs: list[Message]) -> None:
        """Show each run once, until there is code for it again."""
        before, self._stuck = self._stuck, {run["task"] for run in runs}
        if new := [run for run in runs if run["task"] not in before]:
            self._shown.without_code(new)

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
        changes, worker.changes = worker.changes, None
        worker.agents = message.get("agents") or worker.agents
        self._shown.serving(worker.agents, None if changes is None else time.monotonic() - changes.since)
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
        if worker.stage is Stage.LEAVING:
            self._check()  # its last runs may wait for a person now
        if worker.stage is Stage.LEAVING and code == 0:
            return
        self._report_end(worker, f"signal {-code}" if code < 0 else f"exit code {code}")
        if worker.stage not in (Stage.PREPARED, Stage.ASKED):
            self._have_one_prepared()

    def _report_end(self, worker: Worker, why: str) -> None:
        """Show how a worker has ended, and decide whether another one takes its place."""
        serves, child, again = self._serving is not None, worker.child, None
        if worker.stage is Stage.LOADING:
            self._shown.ended_at_import(list(worker.changes.files) if worker.changes else [], why, serves)
            return
        if worker.stage in (Stage.STARTING, Stage.SERVING):
            if child.lived > CALM_SECONDS:
                self._delay = FIRST_DELAY
            again, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY)
            self._again_at = time.monotonic() + again
        elif worker.stage in (Stage.PREPARED, Stage.ASKED):
            self._wanted = False  # the next one would end, too: the next save starts it
        self._shown.ended(why, [] if serves else child.last_lines(8), again, serves)


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
