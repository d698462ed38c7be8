"""A worker under `runyard dev`: it waits to be used, and reports what its agents and their runs do.

See `runyard_common.development` for the messages.
"""

from __future__ import annotations

import importlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import structlog

from runyard_common import development
from runyard_common.database.transaction import CommittedEvent
from runyard_common.development import Connection, Message
from runyard_common.runs.service.claims import Claimed
from runyard_common.runs.service.queues import WithoutCode
from runyard_common.values.errors import ConfigurationError
from runyard_workers.agent_code.catalogue import Loaded
from runyard_workers.agent_code.run_output import Lines
from runyard_workers.agent_code.tracebacks import of_import

logger = structlog.get_logger("runyard.worker")

#: What takes long to import, and is no author's: the next worker imports it ahead where this one has it.
HEAVY: Final = (
    "runyard_workers.agent.loop.runner", "pydantic_ai", "openai", "anthropic", "langgraph.graph", "agents",
)  # fmt: skip
#: What a worker imports behind its agents, as it starts: imported ahead, too.
_AT_START: Final = (
    "celery.apps.worker", "celery.worker.components", "celery.worker.consumer", "sqlalchemy.dialects.sqlite", "uvloop",
)  # fmt: skip
#: Events that end an attempt, and those that the terminal shows besides.
_LAST: Final = frozenset(
    {"ask", "review", "wait", "retry", "fail", "finish", "release", "stop", "compensate"}
)
_SHOWN: Final = _LAST | {"log", "progress", "custom", "compensated"}
#: Messages that may wait for a terminal which does not take them; more are left out and counted.
_MOST_WAITING: Final = 5_000


class Development:
    """The worker's end. Nothing here waits for the terminal, but for `wait_to_load` and `may_serve`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._commands = connection.received()
        self._waiting: queue.Queue[Message | None] = queue.Queue(_MOST_WAITING)
        self._left_out = 0
        self._loaded: list[list[str]] = []  # name, version
        self._agents: dict[str, str] = {}  # of the runs under way, by task
        threading.Thread(target=self._send, name="development", daemon=True).start()

    @classmethod
    def of_environment(cls) -> Development | None:
        """Where `runyard dev` has started this process."""
        connection = Connection.of_environment()
        return cls(connection) if connection is not None else None

    def wait_to_load(self) -> None:
        """Return when the agents are to be imported; end the process where `runyard dev` has ended."""
        for command in self._commands:
            if command["kind"] == development.LOAD:
                self._report(development.LOADING)
                return
            for module in (*_AT_START, *command.get("modules", ())):
                if self._connection.waits():
                    break  # the agents are wanted now
                try:
                    importlib.import_module(module)
                except Exception:  # noqa: BLE001, S110 - the agents will meet it
                    pass
        sys.exit(0)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Inside, what the agents' modules print and log is reported."""
        lines = _ImportedLines(self._report)
        token = lines.attach()
        try:
            yield
        finally:
            lines.end(token)

    def may_serve(self, loaded: Loaded, missing: ConfigurationError | None = None) -> None:
        """Report what was loaded, and return when this worker is to serve; end the process where it is not. `missing`:
        why nothing was."""
        agents = [[one.name, one.version] for one in loaded.definitions.values()]
        agents += [[one.name, one.version] for one in loaded.manifests]
        broken = [{"problem": one.message, "traceback": of_import(one)} for one in loaded.errors]
        if missing is not None:
            broken = [{"problem": missing.message, "traceback": ""}]
        heavy = [name for name in HEAVY if _is_installed(name)]
        if loaded.manifests and HEAVY[0] not in heavy:
            heavy.append(HEAVY[0])
        self._loaded = sorted(agents)
        self._report(
            development.LOADED, agents=self._loaded, broken=broken, empty=loaded.empty, modules=heavy,
            files=[str(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))],
        )  # fmt: skip
        if next(self._commands, {"kind": ""})["kind"] != development.SERVE:
            os._exit(0)  # nothing is open yet, and this is not the main thread

    def serves(
        self,
        refused: Sequence[str],
        brings: Sequence[str],
        leave: Callable[[], object],
        without_code: Callable[[], list[WithoutCode]],
    ) -> None:
        """This worker claims runs. `refused` are agents that could not be published, `brings` what the others were
        published as (name@version). `leave` and `without_code` are called in a thread."""
        published = {(name, version.partition("+")[0]): version for name, version in map(_split, brings)}
        self._loaded = [
            [name, published.get((name, version.partition("+")[0]), version)]
            for name, version in self._loaded
        ]
        self._report(development.SERVES, refused=list(refused), agents=self._loaded)
        listens = threading.Thread(
            target=self._listen, args=(leave, without_code), name="development-in", daemon=True
        )
        listens.start()

    def leaves(self, runs: int) -> None:
        """It claims nothing more, with so many runs under way."""
        self._report(development.LEAVES, runs=runs)

    def began(self, claimed: Claimed) -> None:
        """Report that a run begins here."""
        task = claimed.task
        self._agents[task.id] = task.agent_name
        at = claimed.at or task.updated_at
        self._report_event(task.id, "claim", {"attempt": task.attempt, "version": task.version}, at)

    def publish(self, events: Sequence[CommittedEvent]) -> None:
        """Report events that this process has committed. See `runyard_common.commit_hooks.Local`."""
        for event in events:
            if event.task_id not in self._agents or event.type not in _SHOWN:
                continue
            self._report_event(event.task_id, event.type, event.data, event.at)
            if event.type in _LAST:
                self._agents.pop(event.task_id, None)

    def _report_event(self, task_id: str, type_: str, data: Any, at: float) -> None:
        agent = self._agents.get(task_id, "")
        self._report(development.EVENT, task=task_id, agent=agent, type=type_, data=data, at=at)

    def _listen(self, leave: Callable[[], object], without_code: Callable[[], list[WithoutCode]]) -> None:
        self._check(without_code)
        for command in self._commands:
            if command["kind"] == development.LEAVE:
                leave()
            elif command["kind"] == development.CHECK:
                self._check(without_code)

    def _check(self, without_code: Callable[[], list[WithoutCode]]) -> None:
        try:
            runs = [asdict(run) for run in without_code()]
        except Exception as error:  # noqa: BLE001 - it is a remark, and the database may be away
            logger.debug("The runs without code were not looked for", action="check", error=str(error))
            return
        self._report(development.WITHOUT_CODE, runs=runs)

    def _report(self, kind: str, **fields: Any) -> None:
        try:
            self._waiting.put_nowait({"kind": kind, "left_out": self._left_out, **fields})
            self._left_out = 0
        except queue.Full:
            self._left_out += 1

    def _send(self) -> None:
        while (message := self._waiting.get()) is not None:
            if not self._connection.send(message.pop("kind"), **message):
                return


class _ImportedLines(Lines):
    """What modules of agents write while they are imported, and threads that they start then."""

    __slots__ = ("_report",)

    def __init__(self, report: Callable[..., None]) -> None:
        super().__init__()
        self._report = report

    def line(self, source: str, level: str, text: str, name: str | None = None) -> None:
        """See `Lines`."""
        if text.strip() and not (level == "debug" and name and _is_of_a_library(name)):
            self._report(development.OUTPUT, level=level, text=text, **({"logger": name} if name else {}))

    def close(self) -> None:
        """Threads of these modules write on."""


def _split(agent: str) -> tuple[str, str]:
    name, _, version = agent.rpartition("@")
    return name, version


def _is_of_a_library(logger: str) -> bool:
    """Whether a logger is called as a module that is installed: those of an author's project are in its folder."""
    top = logger.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return top.startswith("runyard") or "site-packages" in Path(file).parts


def _is_installed(name: str) -> bool:
    """Whether a module is imported here that is no project's: authors have packages called ``agents``, too."""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return bool({"site-packages", "dist-packages"} & set(Path(file).parts)) or name.startswith("runyard")
