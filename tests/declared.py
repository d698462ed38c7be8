"""Declared agents on an installation in one process: the runner, and a scripted model server behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.rules import Question
from runyard_common.human_tasks.service import answers
from runyard_common.human_tasks.service.answers import Decision
from runyard_common.runs.queries import events
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.sessions.queries import messages
from runyard_common.settings import Settings
from runyard_scheduler.duties import Admit
from runyard_workers.agent.loop.runner import DeclaredRunner
from tests.fakes.model_server import ModelServer
from tests.installation import Installation

BOT = "@test/bot"


@dataclass
class Declared:
    """An installation for tests of declared agents."""

    site: Installation
    server: ModelServer
    settings: Settings
    home: Path

    def publish(self, name: str = BOT, **manifest: Any) -> str:
        """Publish a declared agent; its name."""
        document = parse({"name": name, "instructions": "You are a test agent."} | manifest)
        rules = PublishRules(self.site.sealer)
        self.site.transact(lambda tx: agents.publish(tx, self.site.org, document, shared=True, rules=rules))
        return name

    async def submit(
        self,
        message: str | None = None,
        args: Any = None,
        agent: str = BOT,
        *,
        output_config: Any = None,
        files: Iterable[dict[str, Any]] = (),
        session_id: str | None = None,
        **options: Any,
    ) -> str:
        """Submit a run with these options; its task id."""
        given = {"options": options, "output_config": output_config, "files": list(files)}
        return await self.site.submit(agent, args, message, input=given, session_id=session_id)

    async def run(self, message: str | None = None, args: Any = None, **more: Any) -> Task:
        """Submit a run and wait for its end."""
        return await self.site.ended(await self.submit(message, args, **more))

    async def completed(self, message: str | None = None, args: Any = None, **more: Any) -> Task:
        """Submit a run, which must complete."""
        task = await self.run(message, args, **more)
        assert task.status is Status.COMPLETED, task.error
        return task

    async def asked(self, task_id: str) -> Question:
        """Wait until the run waits for a person; its one open question."""
        await self.site.until(task_id, Status.WAITING_FOR_INPUT, Status.AWAITING_REVIEW)
        (question,) = self.site.questions(task_id)
        return question

    def post(self, task_id: str, value: Any) -> None:
        """A user's message to the run."""
        self.site.transact(lambda tx: answers.post_message(tx, self.site.org, task_id, value, "user:1"))

    def decide(self, task_id: str, action: str, **more: Any) -> None:
        """A person's decision on the run's open review."""
        self.site.transact(
            lambda tx: answers.review(tx, self.site.org, task_id, Decision(action, **more), "user:1")
        )

    def events(self, task: Task | str, type_: str | None = None) -> list[dict[str, Any]]:
        """The data of the run's events, of one type if given."""
        task_id = task if isinstance(task, str) else task.id
        with self.site.store.read() as conn:
            found = events.after(OrgScope(conn, self.site.org), task_id, 0, 1000)
        return [e["data"] | {"type": e["type"]} for e in found if type_ in (None, e["type"])]

    def lines(self, task: Task) -> list[tuple[str, Any]]:
        """The run's conversation lines (type, content)."""
        with self.site.store.read() as conn:
            return [
                (line.type, line.content) for line in messages.of_task(OrgScope(conn, task.org_id), task.id)
            ]


@contextlib.asynccontextmanager
async def declared_agents(
    url: str, home: Path, capacity: int = 50, **settings: Any
) -> AsyncIterator[Declared]:
    """An installation with one worker of that many slots, asking the scripted server for every model."""
    home.mkdir(exist_ok=True)
    with ModelServer() as server:
        urls = {"anthropic_base_url": server.root, "google_base_url": server.root}
        given: dict[str, Any] = {"home": home, "model": "test-model", "model_base_url": server.url} | urls
        chosen = Settings(**(given | settings))
        async with Installation(url, files=home / "files", capacity=capacity) as site:
            runner = DeclaredRunner(chosen, site.store, site.writer)
            site.declared = runner
            try:
                await site.engine()
                yield Declared(site, server, chosen, home)
            finally:
                for engine in list(site.engines):
                    await engine.drain(4.0)
                    site.engines.remove(engine)
                await runner.aclose()


@contextlib.asynccontextmanager
async def admitting(declared: Declared) -> AsyncIterator[None]:
    """A scheduler's admission beside the worker: what waits for another try gets it in time."""

    async def admit() -> None:
        while True:
            await asyncio.to_thread(Admit(declared.site.store).run_once)
            await asyncio.sleep(0.05)

    admission = asyncio.create_task(admit())
    try:
        yield
    finally:
        admission.cancel()
        await asyncio.wait([admission])
