"""Prepare an attempt: decrypt what it may use, load its conversation and files, choose its runner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from runyard.authoring import AgentDefinition
from runyard.context import File, SessionInfo
from runyard.errors import AgentError, Cancelled
from runyard_common.agents.queries.agents import VersionOutline
from runyard_common.costly import CostlyWork
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database import rows
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.files import FileStore
from runyard_common.runs.queries import events, journal, tasks
from runyard_common.runs.rules.journal import JournalEntry
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.rules.tasks import Task, changed
from runyard_common.runs.service.attempts import NO_SUCH_AGENT
from runyard_common.runs.service.claims import Claimed
from runyard_common.runs.service.rebinds import Rebind, rebind
from runyard_common.sessions.queries import messages
from runyard_common.sessions.rules import Message
from runyard_common.values.errors import StaleFence
from runyard_common.values.json_text import JsonText
from runyard_workers.agent_code import catalogue, run_output, values, versions
from runyard_workers.agent_code.catalogue import Manifests
from runyard_workers.agent_code.run_output import RunOutput
from runyard_workers.agent_code.values import Bounds
from runyard_workers.agent_code.versions import Definitions
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended
from runyard_workers.attempts.children import Children
from runyard_workers.attempts.compensating import Compensations
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.executor import Result, Runner
from runyard_workers.attempts.python_agents import run_python
from runyard_workers.attempts.tokens import Tokens
from runyard_workers.attempts.turns import OwnLoops
from runyard_workers.isolation.lease import Lease
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.processes.pool import ProcessPool

logger = structlog.get_logger("runyard.versions")

_REPORTED = ("custom", "progress", "log")
#: How much of a conversation is read for a run, in bytes: the newest lines. No model takes as much.
_MOST_HISTORY = 64 * 2**20
#: Versions whose organisation is remembered.
_MOST_OWNERS = 4096


@dataclass(frozen=True, slots=True)
class _Past:
    """What the database knows besides the claim."""

    history: list[dict[str, Any]]
    journal: list[JournalEntry]
    reported: int
    printed: int


_NO_PAST: Final = _Past([], [], 0, 0)


class Preparation:
    """Makes attempts of claims. One per process."""

    def __init__(
        self,
        store: Store,
        writer: GroupCommit,
        tokens: Tokens,
        files: FileStore,
        sealer: Sealer,
        agents: Definitions,
        executor: Executor,
        declared: Callable[[], Awaitable[Callable[[Attempt, RunContext], Awaitable[Result]]]],
        bounds: Bounds | None = None,
        capture: bool = True,
        loops: OwnLoops | None = None,
        processes: ProcessPool | None = None,
    ) -> None:
        """`agents` are by name and version. `executor` runs agents' blocking code. `declared` gives the runner of
        declared agents; it is asked at the first one, as its library is heavy. `capture`: what agents print and log
        reaches their runs. `loops`: for agents with a loop of their own. Without `processes` an agent that declares a
        process runs in a thread."""
        self._store = store
        self._writer = writer
        self._tokens = tokens
        self._files = files
        self._sealer = sealer
        self._agents = agents
        self._executor = executor
        self._declared = declared
        self._bounds = bounds or Bounds()
        self._manifests = Manifests(store, sealer)
        self._children = Children(store)
        self._costly = CostlyWork()
        self._capture = capture
        self._loops = loops
        self._processes = processes
        if capture:
            run_output.install()
        self._owners: dict[str, str | None] = {}  # by version

    async def __call__(self, claimed: Claimed, lease: Lease | None = None) -> tuple[Attempt, Runner]:
        """The attempt and what runs it; with `lease` it acts only while that is valid.

        Without the agent the runner raises that it is not here.
        """
        if _is_left_out(claimed.task.stored_input):
            claimed = await self._with_input(claimed)
        task = claimed.task
        code = versions.code_for(self._agents, task.agent_name, task.version)
        definition = None if code is None else code.definition
        if code is not None and code.other_version and not code.drops:
            claimed = await self._rebound(claimed, code.definition)
            task = claimed.task
        stored = None
        if definition is None:
            stored = await in_engine_thread(self._manifests.get, task.version_id)
        manifest = stored.document if stored is not None else None
        past = _NO_PAST
        if task.session_id is not None or task.attempt > 1 or task.retry_of is not None:
            past = await in_engine_thread(self._read_past, task)
        if task.version_id not in self._owners:
            await self._read_owner(task)
        attempt = Attempt(
            replace(claimed, journal=past.journal) if past.journal else claimed,
            manifest or {},
            self._store,
            self._writer,
            self._tokens,
            self._open_secrets(task),
            self._executor,
            lease,
            bounds=self._bounds,
            sealer=self._sealer,
            by_operator=stored is not None and stored.by_operator,
            costly=self._costly,
            # Other organisations see only the outside of a shared agent.
            own_agent=self._owners[task.version_id] == task.org_id,
            keeps_values=definition is None,
            compensations=None if task.ending is None else Compensations.of(past.journal),
        )
        if self._capture and definition is not None and attempt.own_agent:
            attempt.output = RunOutput(attempt.keep_output, self._bounds, past.printed)
        session = SessionInfo(task.session_id, past.history) if task.session_id else None
        context = RunContext(
            attempt, session, self._attached(task), self._children, past.reported, self._loops
        )
        if code is not None and code.drops:
            return attempt, _dropped(code.definition)
        return attempt, self._runner(attempt, definition, manifest, context)

    def isolates(self, claimed: Claimed) -> bool:
        """See `Prepare`."""
        code = versions.code_for(self._agents, claimed.task.agent_name, claimed.task.version)
        return self._processes is not None and code is not None and code.definition.runs_in == "process"

    async def _rebound(self, claimed: Claimed, definition: AgentDefinition) -> Claimed:
        """The claim, its run bound to the version whose code carries it on."""
        task = claimed.task
        version = await in_engine_thread(self._published, task.agent_id, definition)
        if version is None:
            raise RuntimeError(f"{definition.versioned} is not published")
        logger.info(
            "A run goes on with the code of another version", action="rebind", task=task.id,
            agent=task.agent_name, version=task.version, by=version.version,
        )  # fmt: skip
        command = Rebind(task.id, task.fence, task.agent_name, version.id, version.version)
        try:
            await self._writer.call(rebind, command)
        except StaleFence as lost:
            raise Cancelled("this attempt no longer owns its task") from lost
        bound = {"version": version.version, "version_id": version.id}
        return replace(claimed, task=changed(task, bound))

    def _published(self, agent_id: str, definition: AgentDefinition) -> VersionOutline | None:
        with self._store.read() as conn:
            found = catalogue.published(conn, agent_id, definition)
        return found[0] if found else None

    def _runner(
        self,
        attempt: Attempt,
        definition: AgentDefinition | None,
        manifest: dict[str, Any] | None,
        context: RunContext,
    ) -> Runner:
        if definition is not None:
            return _PythonRunner(definition, context, self._processes)
        if manifest is not None and manifest.get("kind", "declared") == "declared":

            async def run_declared(attempt: Attempt) -> Result:
                result = await (await self._declared())(attempt, context)
                output = await attempt.measured(values.output, result.output, attempt.task.agent_name)
                return replace(result, output=output)

            return run_declared
        return _deleted if manifest is None else _not_here

    async def _read_owner(self, task: Task) -> None:
        """Note whose the run's agent is."""
        owner = await in_engine_thread(self._manifests.owner, task.version_id)
        if len(self._owners) >= _MOST_OWNERS:
            self._owners.clear()
        self._owners[task.version_id] = owner

    def _open_secrets(self, task: Task) -> dict[str, Any]:
        return dict(self._sealer.open(task.secrets)) if task.secrets else {}

    async def _with_input(self, claimed: Claimed) -> Claimed:
        return replace(
            claimed, task=await self._costly.do(claimed.task.org_id, self._read_input, claimed.task)
        )

    def _read_input(self, task: Task) -> Task:
        with self._store.read() as conn:
            return tasks.with_input(conn, task)

    def _read_past(self, task: Task) -> _Past:
        with self._store.read() as conn:
            scope = OrgScope(conn, task.org_id)
            history: Sequence[Message] = (
                messages.of_session(scope, task.session_id, most_bytes=_MOST_HISTORY)
                if task.session_id
                else ()
            )
            reported = printed = 0
            if task.attempt > 1:
                printed = events.count_output(conn, task.id)
                reported = events.count(conn, task.id, _REPORTED) - printed
            done = self._journal(conn, task)
        lines = [rows.values(line) for line in history if line.task_id != task.id]
        return _Past(lines, done, reported, printed)

    def _journal(self, conn: Connection, task: Task) -> list[JournalEntry]:
        if task.attempt == 1 and task.retry_of is None:
            return []
        return journal.outline(conn, task.id)

    def _attached(self, task: Task) -> tuple[File, ...]:
        return tuple(
            File(f["id"], f["name"], f["media_type"], f["size"], partial(self._files.get, f["sha256"]))
            for f in (task.input or {}).get("files") or ()
        )


class _PythonRunner:
    """Runs a Python agent. Less than a closure: each run of a worker keeps one."""

    __slots__ = ("_context", "_definition", "_processes")

    def __init__(
        self, definition: AgentDefinition, context: RunContext, processes: ProcessPool | None
    ) -> None:
        self._definition, self._context, self._processes = definition, context, processes

    def __call__(self, attempt: Attempt) -> Awaitable[Result]:
        """See `Runner`."""
        return run_python(attempt, self._definition, self._context, self._processes)


def _is_left_out(stored: Any) -> bool:
    """Whether a claim has left out an input, as it is large."""
    return isinstance(stored, JsonText) and stored.text == ""


def _dropped(definition: AgentDefinition) -> Runner:
    async def refuse(attempt: Attempt) -> Result:
        raise versions.dropped(definition, attempt.task.version)

    return refuse


async def _deleted(attempt: Attempt) -> Result:
    raise AgentError(
        f"The version {attempt.task.version} of {attempt.task.agent_name} was deleted.", code="agent_deleted"
    )


async def _not_here(attempt: Attempt) -> Result:
    """A process of an earlier version has stored it without the agent it requires, or this worker's claim: from here
    on it waits for a worker that has it, and no retry is used."""
    raise Suspended(Ended(Outcome.HANDED_OVER, reason=NO_SUCH_AGENT))
