"""One attempt of a declared agent: what it is to do, the agents and models it uses, and its files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import ModelMessage

from runyard.context import File
from runyard_common import surfaces
from runyard_common.agents.rules.workflows import Workflow
from runyard_common.agents.service import agents, manifests
from runyard_common.agents.service.model_choice import model_name
from runyard_common.database.rows import OrgScope
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.service.runs import unsealed
from runyard_common.sessions.queries import messages
from runyard_common.sessions.rules import Line
from runyard_common.values.errors import NotFound
from runyard_workers.agent import attachments, plan
from runyard_workers.agent.budget import Budget
from runyard_workers.agent.loop import prompt
from runyard_workers.agent.loop.messages import from_lines
from runyard_workers.agent.loop.models import Chosen, Models, Prices
from runyard_workers.agent.plan import AgentConfig, Plan, Publisher
from runyard_workers.agent.services import Services
from runyard_workers.agent.tools.loader import ToolLoader
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.context import RunContext
from runyard_workers.isolation.threads import in_engine_thread


class Run:
    """What the model sessions of one attempt share."""

    def __init__(
        self, services: Services, models: Models, prices: Prices, attempt: Attempt, context: RunContext
    ) -> None:
        """Raises `BadOptions` for a request that cannot be carried out."""
        self.services = services
        self.prices = prices
        self.attempt = attempt
        self._models = models
        self._context = context
        given = attempt.task.input or {}
        self._options = unsealed(given.get("options") or {}, attempt.secrets)
        lenient = surfaces.of(attempt.task.front).lenient_output
        publisher = Publisher(attempt.by_operator, attempt.own_agent)
        self.plan: Plan = plan.make(attempt.manifest, {**given, "options": self._options}, lenient, publisher)
        self.budget = Budget(attempt, self.plan.budget_micros)
        self.tools = ToolLoader(services, attempt)
        self.attached: list[attachments.Attached] = []
        self.results: list[tuple[Workflow, dict[str, Any]]] = []  # of workflows
        self._files_lock = asyncio.Lock()

    # -- agents --------------------------------------------------------------------------------------------

    async def first_agent(self) -> str:
        """The agent that an earlier run of the session handed the conversation to, while it is one of the plan's."""
        session_id, first = self.attempt.task.session_id, self.plan.agent.name
        if session_id is None or not self.plan.specialists:
            return first
        name = await in_engine_thread(self._handed_to, session_id)
        return name if name in {one.name for one in self.plan.specialists} else first

    def _handed_to(self, session_id: str) -> str | None:
        with self.services.store.read() as conn:
            return messages.handed_to(conn, session_id)

    async def agent(self, name: str) -> AgentConfig:
        """The run's own agent, a registered one, or a specialist made of its description."""
        own = self.plan.agent
        if name == own.name:
            return own
        registered = await in_engine_thread(self._registered, name)
        if registered is not None:
            return replace(registered, name=name)
        description = next((one.description for one in self.plan.specialists if one.name == name), "")
        instructions = f"You are {name}, a specialist. {description}".strip()
        return replace(own, name=name, instructions=instructions, demonstrations=())

    async def can_transfer_to(self, name: str) -> bool:
        """Whether this agent is there: a full name is that of a registered agent."""
        if name == self.plan.agent.name or not name.startswith("@"):
            return True
        return await in_engine_thread(self._registered, name) is not None

    def _registered(self, name: str) -> AgentConfig | None:
        org_id = self.attempt.task.org_id
        try:
            with self.services.store.read() as conn:
                record = agents.resolve(OrgScope(conn, org_id), name)
        except NotFound:
            return None
        if record.kind != "declared":
            return None
        publisher = Publisher(record.by_operator, record.ref.org_id == org_id)
        return plan.agent_config(manifests.opened(record.version, self.attempt.sealer), publisher)

    def specialists(self, name: str) -> dict[str, str]:
        """The agents that `name` may hand over to, with their descriptions; the first one is always among them."""
        others = {one.name: one.description for one in self.plan.specialists if one.name != name}
        first = self.plan.agent.name
        return others if name == first else others | {first: "The agent that the conversation began with."}

    async def model(self, agent: AgentConfig) -> Chosen:
        """The agent's model, ready to be asked."""
        name = self.attempt.task.model  # what admission has counted the run against
        if name is None or agent.name != self.plan.agent.name:
            own = {"model": agent.model, "mode": agent.mode}
            name = model_name(self.services.settings, own, self._options)
        if not self._models.loaded(name):  # the loop must not wait for an import
            await self.attempt.run_blocking(self._models.get, name)
        chosen = self._models.get(name)
        return chosen if agent.vision is None else replace(chosen, sees_images=bool(agent.vision))

    # -- what the model is given ---------------------------------------------------------------------------

    def history(self) -> list[ModelMessage]:
        """What came before the request: example exchanges, and the session's earlier runs."""
        session = self._context.session
        earlier = from_lines(session.history) if session is not None else []
        return [*prompt.demonstrations(self.plan.agent), *earlier]

    def opening_line(self) -> Line:
        """The request as the conversation's first line."""
        return prompt.opening_line(self.plan, [file.name for file in self._context.files])

    @property
    def images(self) -> dict[str, bytes]:
        """The attached images that were read, by file id."""
        return {one.file.id: one.image.data for one in self.attached if one.image is not None}

    async def read_files(self) -> None:
        """Read the attached files, once, and log how that went."""
        files, attempt = self._context.files, self.attempt
        async with self._files_lock:  # steps of a workflow may all want them
            if len(self.attached) == len(files):
                return
            self.attached = await self._read(files)
            if attempt.replay.entry("attachments") is None:
                logged = tuple(one.event for one in self.attached)
                await attempt.end(Step("attachments", "value", "attachments", "read"), None, events=logged)

    async def read_images(self) -> None:
        """A resumed conversation names the images it showed; the model must see them again."""
        images = [file for file in self._context.files if file.media_type.startswith("image/")]
        if images and any(entry.kind == "model" for entry in self.attempt.replay.entries):
            self.attached = await self._read(images)

    async def _read(self, files: Sequence[File]) -> list[attachments.Attached]:
        return await attachments.read(self.attempt, files, self.services.files)
