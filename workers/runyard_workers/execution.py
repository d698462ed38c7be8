"""What executing runs takes in a process: the store with what follows its commits, the agents, and their runner.

A worker has it, and each of its quarantine processes.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from runyard_common import tracing
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.commit_hooks import Local, note_events
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.start_waits import once_there
from runyard_common.database.transaction import Store
from runyard_common.files import open_files
from runyard_common.identity.queries import identity as organisations
from runyard_common.identity.service import identity
from runyard_common.runs.service import queues
from runyard_common.runs.service.queues import WithoutCode
from runyard_common.runtime import open_runtime
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError
from runyard_workers.agent.turns import OwnLoops
from runyard_workers.agent_code import catalogue, run_output
from runyard_workers.agent_code.values import Bounds
from runyard_workers.attempts.preparation import Preparation
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.processes.pool import ProcessPool

if TYPE_CHECKING:
    from runyard_workers.agent.loop.runner import DeclaredRunner
    from runyard_workers.development import Development

T = TypeVar("T")
logger = structlog.get_logger("runyard.worker")

#: Runs that `runyard dev` hears of at once.
_MOST_WITHOUT_CODE = 100


class Execution:
    """Create it on the loop and `open()` it; `close()` it last."""

    def __init__(
        self,
        settings: Settings,
        app: Any = None,
        local: Local = Local(),
        development: Development | None = None,
    ) -> None:
        self.settings = settings
        if settings.capture_output:
            run_output.install()  # before agents' modules keep the streams
        # Before anything is opened: a source of agents that does not exist ends the process at once.
        with development.loading() if development is not None else nullcontext():
            loaded = _load(settings, development)
        if (recorder := tracing.active()) is not None:
            recorder.serve_authors()  # after their modules: a provider of theirs comes first
        if development is not None:
            development.may_serve(loaded)
        for broken in loaded.broken:
            logger.error("A source of agents is broken; the others work", action="load", source=broken)
        for empty in loaded.empty:
            logger.warning("A source of agents holds none", action="load", source=empty)
        lines = "".join(
            f"\n  {line}" for problem in (*loaded.broken, *loaded.empty) for line in problem.splitlines()
        )
        if loaded.broken and not (loaded.definitions or loaded.manifests):
            # A worker without agents would claim nothing and look well.
            raise ConfigurationError(f"RUNYARD_AGENTS: no agent can be loaded{lines}")
        found = "some agents cannot be loaded" if loaded.broken else "a source holds no agent"
        self._in_development = development is not None
        self.refused: list[str] = []  # agents that could not be published, and why
        #: What its author has to correct, as one block; empty where every source gave something.
        self.problems = f"RUNYARD_AGENTS: {found}{lines}" if lines else ""
        self.definitions, self.manifests = loaded.definitions, loaded.manifests
        self.agents: tuple[str, ...] = ()  # what this process can run of Python agents: name@version
        self.resumes: tuple[str, ...] = ()  # what it carries on once no worker has it: name@version
        self.brings: tuple[str, ...] = ()  # what `publish` made of every agent: name@version
        self.runtime = open_runtime(settings, pool_size=8, app=app, local=local)
        self.plain = Store(self.runtime.db, note_events)  # what is written through it wakes no worker
        self.store, self.writer = self.runtime.store, self.runtime.writer
        self._declared: DeclaredRunner | None = None
        self._processes = ProcessPool(tuple(settings.agent_sources))
        self._importing = asyncio.Lock()

    async def open(self) -> None:
        """Wait for the database, and know who we are there."""
        self.sealer, self.org_id = await _once_there(self._identity)

    async def publish(self) -> None:
        """Publish this process's agents, see `brings` and `agents`. One that is refused leaves the others."""
        org_id = await _once_there(self._publishes_for)
        manifests, refused = await _once_there(
            catalogue.split_known, self.store, org_id, self.definitions.values(), self.manifests
        )
        brought = await _once_there(
            catalogue.bring if org_id == self.org_id else catalogue.bring_to,
            self.store,
            org_id,
            self.definitions.values(),
            manifests,
            PublishRules.of(self.settings, self.sealer, revises=self._in_development),
            refused,
        )
        self.refused = refused
        for reason in refused:
            logger.error("An agent was not published; the others are", action="publish", reason=reason)
        self.brings = tuple(brought)
        self.agents = await _once_there(catalogue.versions_of, self.store, org_id, self.definitions.values())
        self.resumes = await _once_there(
            catalogue.carried_on, self.store, org_id, self.definitions.values(), self.agents
        )

    def without_code(self) -> list[WithoutCode]:
        """The newest of the unfinished runs whose agent no live worker has. Blocking."""
        with self.plain.read() as conn:
            return queues.without_code(conn, self.plain.db.now(conn), self.org_id, _MOST_WITHOUT_CODE)

    def preparation(self, executor: Executor) -> Preparation:
        """What makes attempts of claims, their blocking code to be run by `executor`."""
        files = open_files(self.settings.files)
        return Preparation(
            self.store,
            self.writer,
            self.runtime.stream,
            files,
            self.sealer,
            self.definitions,
            executor,
            self._declared_runner,
            Bounds.of(self.settings),
            self.settings.capture_output,
            OwnLoops(self.settings),
            self._processes,
        )

    async def close(self) -> None:
        """Finish what is written and close what was opened."""
        await self._processes.close()
        if self._declared is not None:
            await self._declared.aclose()
        await in_engine_thread(self.runtime.close)

    def _publishes_for(self) -> str:
        """The organisation of this worker's agents: the operator's, whose agents are for all, or the one that is set.
        `ConfigurationError` where there is none of this id."""
        wanted = self.settings.worker_organisation
        if not wanted:
            return self.org_id
        with self.plain.read() as conn:
            if organisations.organisation(conn, wanted) is None:
                raise ConfigurationError(
                    f"There is no organisation {wanted!r}.", field="RUNYARD_WORKER_ORGANISATION"
                )
        return wanted

    def _identity(self) -> tuple[Sealer, str]:
        org_id = identity.bootstrap(self.plain, self.settings).org_id
        return identity.sealer(self.settings), org_id

    async def _declared_runner(self) -> DeclaredRunner:
        """Made at the first declared run. The agent library takes seconds to import: in a thread, so that the
        loop's other runs go on meanwhile."""
        async with self._importing:
            if self._declared is None:
                made = await in_engine_thread(importlib.import_module, "runyard_workers.agent.loop.runner")
                self._declared = made.DeclaredRunner(self.settings, self.store, self.writer)
        return self._declared


def _load(settings: Settings, development: Development | None) -> catalogue.Loaded:
    """What the sources give. One that does not exist ends the process; under `runyard dev` it is reported before."""
    try:
        return catalogue.load_each(settings.agent_sources)
    except ConfigurationError as error:
        if development is not None:
            development.may_serve(catalogue.Loaded({}, [], [], []), error)
        raise


async def _once_there(work: Callable[..., T], *args: Any) -> T:
    return await once_there(lambda: in_engine_thread(work, *args))
