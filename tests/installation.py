"""An installation in one process, without broker and HTTP: a real database, agents and engines."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyard import authoring
from runyard.authoring import AgentDefinition, agent, every_version
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.commit_hooks import Local
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import CommittedEvent, Tx
from runyard_common.files import open_files
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.queries import events, journal, tasks
from runyard_common.runs.rules.journal import JournalEntry
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import submissions
from runyard_common.runtime import Runtime
from runyard_common.settings import Settings
from runyard_common.stream.wake_ups import Kind
from runyard_common.values.ids import uuid7
from runyard_workers.agent.turns import OwnLoops
from runyard_workers.agent_code.values import Bounds
from runyard_workers.attempts.preparation import Preparation
from runyard_workers.engine import Engine
from runyard_workers.isolation.loop_guard import LoopGuard
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.processes.pool import ProcessPool
from runyard_workers.quarantine import Quarantine
from runyard_workers.slots import Slots
from tests import databases


class Recorder:
    """Records what a process would send to the live stream and the broker."""

    def __init__(self) -> None:
        self.events: list[CommittedEvent] = []
        self.tokens: list[dict[str, Any]] = []
        self.rings = 0
        self.on_cancel: Callable[[str, str], None] = lambda worker_id, task_id: None

    def publish(self, events: Sequence[CommittedEvent], /) -> None:
        self.events.extend(events)

    def cancel(self, worker_id: str, task_id: str) -> None:
        self.on_cancel(worker_id, task_id)

    def token(self, task_id: str, attempt: int, data: dict[str, Any]) -> None:
        self.tokens.append({"task_id": task_id, "attempt": attempt} | data)

    def wake(self, kind: Kind, otherwise: Callable[[], object]) -> None:
        otherwise()

    def notify(self) -> None:
        self.rings += 1

    def notify_deliveries(self) -> None:
        pass

    def check(self) -> None:
        return None

    def close(self) -> None:
        pass


@dataclass
class Installation:
    """Use as `async with Installation(url) as site`."""

    url: str
    files: Path | None = None
    capacity: int = 50
    lease_seconds: float = 10.0
    declared: Any = None
    bounds: Bounds | None = None
    settings: Settings = field(default_factory=Settings)
    recorder: Recorder = field(default_factory=Recorder)
    org: str = field(default_factory=uuid7)
    engines: list[Engine] = field(default_factory=list)
    _gone: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Installation:
        self.db = await asyncio.to_thread(databases.opened, self.url)
        runtime = Runtime(self.db, self.recorder, self.recorder, local=Local(wake=self._wake))
        self.store, self.writer = runtime.store, runtime.writer
        self.recorder.on_cancel = self._cancel
        self.sealer = Sealer(new_key())
        self.guard = LoopGuard()
        self.guard.install(asyncio.get_running_loop())
        self.processes = ProcessPool()
        return self

    async def __aexit__(self, *_: object) -> None:
        for run in self._gone:  # what the dead would still have wanted to write
            run.cancel()
        await asyncio.gather(*self._gone, return_exceptions=True)
        for engine in self.engines:
            await engine.drain(4.0)
        await self.processes.close()
        await asyncio.to_thread(self.writer.close)
        self.db.close()

    def _wake(self) -> None:
        for engine in self.engines:
            engine.wake_threadsafe()

    def _cancel(self, worker_id: str, task_id: str) -> None:
        for engine in self.engines:
            if engine.worker_id == worker_id:
                engine._loop.call_soon_threadsafe(engine.cancel_run, task_id)

    def publish(
        self, fn: Callable[..., Any], name: str | None = None, org: str | None = None, **options: Any
    ) -> str:
        """Publish a function as an agent; its name."""
        full = name or f"@test/{fn.__name__.strip('_')}_{uuid7()[-6:]}"
        versioned = f"{full}@{options.get('version', '1.0.0')}"
        authoring._registry.pop(versioned, None)  # a test may publish the same version with other code
        agent(full, **options)(fn)
        self.publish_definition(every_version()[versioned], org)
        return full

    def publish_definition(self, definition: AgentDefinition, org: str | None = None) -> None:
        self.transact(lambda tx: agents.publish(tx, org or self.org, parse(definition.manifest), shared=True))

    async def engine(
        self,
        capacity: int | None = None,
        lease_seconds: float | None = None,
        quarantine: Quarantine | None = None,
        agents: Sequence[str] | None = None,
        resumes: Sequence[str] = (),
        has: Mapping[str, AgentDefinition] | None = None,
        dedicated: bool = False,
    ) -> Engine:
        """Start another worker; `agents` are what it can run (name@version), None: all. `has` is its code, by name and
        version; None: all that is registered."""

        size = capacity or self.capacity
        threads = RunThreads(size)

        async def declared() -> Any:
            return self.declared

        prepare = Preparation(
            self.store,
            self.writer,
            self.recorder,
            open_files(str(self.files or Path(tempfile.mkdtemp()))),
            self.sealer,
            authoring._registry if has is None else has,
            threads,
            declared,
            self.bounds,
            loops=OwnLoops(self.settings),
            processes=self.processes,
        )
        lease = lease_seconds or self.lease_seconds
        engine = Engine(
            self.store, self.writer, Slots(size), size, lease, prepare, threads, self.guard, quarantine,
            agents=agents, resumes=resumes, dedicated=dedicated,
        )  # fmt: skip
        self.engines.append(engine)
        await engine.start()
        return engine

    def vanish(self, engine: Engine) -> None:
        """The worker dies as by SIGKILL: no more heartbeats, no more writes, nothing handed back."""
        self.engines.remove(engine)
        engine._draining = True
        assert engine._beat is not None
        engine._beat.stop()
        for life in engine._runs.lives():
            if life.attempt is not None:
                life.attempt.writer = _Dead()  # type: ignore[assignment]
            assert life.running is not None
            life.running.cancel()
            self._gone.append(life.running)
        engine._claimer.cancel()

    def transact(self, work: Callable[[Tx], Any]) -> Any:
        """Run `work` in one transaction."""
        with self.store.begin() as tx:
            return work(tx)

    def spec(self, agent_name: str, args: Any = None, message: str | None = None, **options: Any) -> RunSpec:
        org = options.pop("org_id", self.org)
        with self.store.read() as conn:
            ref = agents.resolve(OrgScope(conn, org), agent_name).ref
        given = {"message": message, "args": args} | options.pop("input", {})
        return RunSpec(task_id=uuid7(), org_id=org, agent=ref, front="native", input=given, **options)

    async def submit(
        self, agent_name: str, args: Any = None, message: str | None = None, **options: Any
    ) -> str:
        """Submit a run; its task id."""
        spec = self.spec(agent_name, args, message, **options)
        accepted: AcceptedRun = await self.writer.call(submissions.submit, spec)
        return accepted.task_id

    def task(self, task_id: str) -> Task:
        with self.store.read() as conn:
            return tasks.load(conn, [task_id])[task_id]

    def events(self, task_id: str) -> list[str]:
        with self.store.read() as conn:
            found = events.after(OrgScope(conn, self.org), task_id, 0, 1000)
        assert [e["seq"] for e in found] == list(range(1, len(found) + 1))
        return [e["type"] for e in found]

    def journal(self, task_id: str) -> list[JournalEntry]:
        with self.store.read() as conn:
            return journal.load(conn, [task_id]).get(task_id, [])

    def questions(self, task_id: str) -> list[Question]:
        with self.store.read() as conn:
            return questions.open_of(conn, task_id)

    async def until(self, task_id: str, *statuses: Status, seconds: float = 40.0) -> Task:
        """Wait until the task has one of these statuses."""
        end = time.monotonic() + seconds
        while (task := await asyncio.to_thread(self.task, task_id)).status not in statuses:
            if time.monotonic() > end:
                raise AssertionError(
                    f"still {task.status} after {seconds} s: {self.events(task_id)} {task.error}"
                )
            await asyncio.sleep(0.02)
        return task

    async def ended(self, task_id: str, seconds: float = 40.0) -> Task:
        return await self.until(task_id, Status.COMPLETED, Status.FAILED, Status.STOPPED, seconds=seconds)


class _Dead:
    """The writer of a process that is gone."""

    async def call(self, *_: Any) -> Any:
        await asyncio.Event().wait()
