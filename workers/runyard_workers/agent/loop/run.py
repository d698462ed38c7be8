"""One run of a declared agent: its workflows, its conversation, and the structured output taken from both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic_ai.messages import ModelMessage, UserContent

from runyard.errors import AgentError
from runyard_common.agents.rules.workflows import Step, Workflow
from runyard_common.agents.service import agents, manifests
from runyard_common.agents.service.model_choice import model_name
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.service.runs import unsealed
from runyard_common.runs.service.steps import Step as Entry
from runyard_common.schemas import outputs
from runyard_common.schemas.outputs import OutputContract
from runyard_common.sessions.queries import messages
from runyard_common.usage.queries.turns import Standing
from runyard_common.usage.service.turns import OPENING, StartTurn, TurnStart, start_turn
from runyard_common.values.errors import NotFound
from runyard_workers.agent import attachments, events, plan
from runyard_workers.agent.budget import Budget
from runyard_workers.agent.equipment import Equipment
from runyard_workers.agent.failures import LimitReached, ModelRefused, OutputInvalid
from runyard_workers.agent.loop import prompt
from runyard_workers.agent.loop.conversation import Conversation, Speaker
from runyard_workers.agent.loop.history import from_lines
from runyard_workers.agent.loop.models import Chosen
from runyard_workers.agent.loop.talk import Talk
from runyard_workers.agent.loop.transcript import Transcript
from runyard_workers.agent.plan import Persona, Plan, Publisher
from runyard_workers.agent.shared import Shared
from runyard_workers.agent.workflows import WorkflowRun
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.executor import Result
from runyard_workers.isolation.engine_threads import in_engine_thread

#: How a model fails that gives no object at all, or none that is whole.
_GAVE_NONE: Final = ("output_invalid", "model_misbehaved", "model_no_answer", "model_output_truncated")


class Run:
    """Made for one attempt; `go()` once."""

    def __init__(self, shared: Shared, attempt: Attempt, context: RunContext, equipment: Equipment) -> None:
        self._shared = shared
        self._attempt = attempt
        self._context = context
        self._equipment = equipment
        given = attempt.task.input or {}
        self._options = unsealed(given.get("options") or {}, attempt.secrets)
        # appstrate's contract: an output that breaks its schema is logged, and the run succeeds.
        lenient = attempt.task.front == "appstrate"
        publisher = Publisher(attempt.by_operator, attempt.own_agent)
        self._plan: Plan = plan.make(
            attempt.manifest, {**given, "options": self._options}, lenient, publisher
        )
        self._budget = Budget(attempt, self._plan.budget_micros)
        self._attached: list[attachments.Attached] = []
        self._results: list[tuple[Workflow, dict[str, Any]]] = []
        self._reading = asyncio.Lock()
        self._mail_given = 0  # the turn whose mail is in its prompt already

    async def go(self) -> Result:
        """Run to the end, or raise what ends the attempt."""
        for entry in self._attempt.replay.entries:
            if entry["state"] != "begun":
                self._attempt.replay.recall(entry["key"], entry["kind"])
        await self._read_images()
        self._results = await self._workflows()
        main = self._conversation("", self._plan.output)
        output = await main.run(await self._holder(), self._first_prompt, self._before())
        lines: tuple[dict[str, Any], ...] = ()
        if self._plan.output is not None:
            lines = ({"role": "assistant", "type": "agent_response", "content": output},)
        if self._plan.final_output is not None:
            output = await self._final_output(main.messages, self._plan.final_output, output)
        return Result(output, lines)

    # -- conversations -------------------------------------------------------------------------------------

    def _conversation(
        self, prefix: str, contract: OutputContract | None, scope: dict[str, Any] | None = None
    ) -> Conversation:
        images = {a.file.id: a.image.data for a in self._attached if a.image is not None}
        transcript = Transcript(self._attempt, prefix, images)
        main = not prefix

        async def speaker_of(name: str) -> Speaker:
            speaker = await self._speaker(name, transcript, contract, tools=prefix != "final", main=main)
            speaker.talk.scope = scope or {}
            return speaker

        async def mail() -> list[str]:
            return await self._mail_after(transcript) if main else []

        return Conversation(transcript, speaker_of, contract, mail)

    async def _speaker(
        self, name: str, transcript: Transcript, contract: OutputContract | None, *, tools: bool, main: bool
    ) -> Speaker:
        persona = await self._persona(name)
        talk = Talk(
            self._attempt,
            transcript,
            self._shared.prices,
            self._starter(transcript, main=main),
            await self._model(persona),
            persona.name,
            contract=contract,
            streaming=self._plan.streaming and main,
            max_tokens=persona.max_tokens,
        )
        notes: list[str] = []
        if tools:
            talk.toolbox, notes = await self._equipment.of(self._plan, persona)
        told = prompt.instructions(self._plan, persona, contract, notes)
        return Speaker(persona, talk, told, self._transfers(name) if main else {})

    def _transfers(self, name: str) -> dict[str, str]:
        """Whom the speaker may hand over to: the specialists, and back to the agent the run began with."""
        others = {one.name: one.description for one in self._plan.specialists if one.name != name}
        first = self._plan.persona.name
        return others if name == first else others | {first: "The agent that the conversation began with."}

    async def _holder(self) -> str:
        """Who speaks first: whom an earlier run of the session handed the conversation to, if it is still at hand."""
        session_id, first = self._attempt.task.session_id, self._plan.persona.name
        if session_id is None or not self._plan.specialists:
            return first
        name = await in_engine_thread(self._last_holder, session_id)
        return name if name in {one.name for one in self._plan.specialists} else first

    def _last_holder(self, session_id: str) -> str | None:
        with self._shared.store.read() as conn:
            return messages.holder(conn, session_id)

    async def _model(self, persona: Persona) -> Chosen:
        counted = self._attempt.task.model  # what admission has counted the run against
        if counted is None or persona.name != self._plan.persona.name:
            own = {"model": persona.model, "mode": persona.mode}
            counted = model_name(self._shared.settings, own, self._options)
        models = self._shared.models
        if not models.loaded(counted):  # the loop must not stand still for an import
            await self._attempt.run_blocking(models.get, counted)
        chosen = models.get(counted)
        return chosen if persona.vision is None else replace(chosen, sees_images=bool(persona.vision))

    async def _persona(self, name: str) -> Persona:
        if name == self._plan.persona.name:
            return self._plan.persona
        found = await in_engine_thread(self._registered, name)
        if found is not None:
            return replace(found, name=name)
        said = next((one.description for one in self._plan.specialists if one.name == name), "")
        told = f"You are {name}, a specialist. {said}".strip()
        own = self._plan.persona
        return replace(own, name=name, instructions=told, demonstrations=())

    def _registered(self, name: str) -> Persona | None:
        org_id = self._attempt.task.org_id
        try:
            with self._shared.store.read() as conn:
                record = agents.resolve(conn, org_id, name)
        except NotFound:
            return None
        if record.kind != "declared":
            return None
        publisher = Publisher(record.by_operator, record.ref.org_id == org_id)
        return plan.persona(manifests.opened(record.version, self._attempt.sealer), publisher)

    # -- what the model is given ---------------------------------------------------------------------------

    def _before(self) -> list[ModelMessage]:
        session = self._context.session
        earlier = from_lines(session.history) if session is not None else []
        return [*prompt.demonstrations(self._plan.persona), *earlier]

    async def _first_prompt(self, speaker: Speaker) -> Sequence[UserContent]:
        async with self._reading:  # steps of a workflow may all want them
            await self._read_files()
        speaker.talk.transcript.show({a.file.id: a.image.data for a in self._attached if a.image is not None})
        asked = prompt.first_prompt(self._plan, self._attached, speaker.talk.model.sees_images)
        return [*asked, *(prompt.workflow_results(flow, found) for flow, found in self._results)]

    async def _read_files(self) -> None:
        files, attempt = self._context.files, self._attempt
        if len(self._attached) == len(files):
            return
        self._attached = await attachments.read(attempt, files, self._shared.files)
        if attempt.replay.entry("attachments") is None:
            logged = tuple(one.event for one in self._attached)
            await attempt.end(Entry("attachments", "value", "attachments", "read"), None, events=logged)

    async def _read_images(self) -> None:
        """A resumed conversation names the images it showed; the model must see them again."""
        images = [file for file in self._context.files if file.media_type.startswith("image/")]
        if images and any(entry["kind"] == "model" for entry in self._attempt.replay.entries):
            self._attached = await attachments.read(self._attempt, images, self._shared.files)

    # -- before each turn ----------------------------------------------------------------------------------

    def _starter(
        self, transcript: Transcript, *, main: bool
    ) -> Callable[[int], Awaitable[tuple[list[str], Standing]]]:
        async def before_turn(turn: int) -> tuple[list[str], Standing]:
            attempt = self._attempt
            await attempt.ready()
            if attempt.draining:
                raise Suspended(Ended(Outcome.HANDED_OVER))
            if turn > self._plan.most_turns:
                raise LimitReached(
                    f"The run took {self._plan.most_turns} model turns, its most, without an answer.",
                    code="turn_limit",
                    turns=self._plan.most_turns,
                )
            said, standing = await self._start(transcript, turn, take_mail=main)
            self._budget.check(standing, turn)
            return said, standing

        return before_turn

    async def _start(
        self, transcript: Transcript, turn: int, *, take_mail: bool
    ) -> tuple[list[str], Standing]:
        attempt = self._attempt
        pos = attempt.replay.next_pos()
        prefix = f"{transcript.turn_key(turn)}:mail#"
        opening = None
        if take_mail and turn == 1 and attempt.replay.entry(OPENING) is None:
            opening = prompt.opening_line(self._plan, [file.name for file in self._context.files])
        command = StartTurn(attempt.task.id, attempt.fence, f"{prefix}{pos}", pos, take_mail, opening)
        started: TurnStart = await attempt.write(start_turn, command)
        if self._mail_given == turn and take_mail:
            return _texts(started.said), started.standing
        earlier = [
            entry["value"]["said"] for entry in attempt.replay.entries if entry["key"].startswith(prefix)
        ]
        return _texts([*(one for said in earlier for one in said), *started.said]), started.standing

    async def _mail_after(self, transcript: Transcript) -> list[str]:
        """What users said while the model gave its final answer: the conversation goes on with it."""
        if self._attempt.replay.entry("final:turn#1") is not None:
            return []
        turn = transcript.turn + 1
        said, _ = await self._start(transcript, turn, take_mail=True)
        self._mail_given = turn if said else 0
        return said

    # -- workflows -----------------------------------------------------------------------------------------

    async def _workflows(self) -> list[tuple[Workflow, dict[str, Any]]]:
        """Carry out the workflows, one after the other, before the agent answers."""
        found = []
        for index, flow in enumerate(self._plan.workflows):
            perform = partial(self._perform, flow)
            found.append((flow, await WorkflowRun(self._attempt, flow, index, perform).run()))
        return found

    async def _perform(self, flow: Workflow, prefix: str, step: Step, inputs: Mapping[str, Any]) -> Any:
        contract = None
        if step.output_schema is not None:
            where = f"workflows.{flow.id}.{step.id}.output_schema"
            contract = outputs.from_schema(step.output_schema, field=where)
        scope = {"workflow": flow.id, "step": step.id}

        async def ask(speaker: Speaker) -> Sequence[UserContent]:
            asked = await self._first_prompt(speaker)
            return [prompt.step_task(flow, step, inputs), *asked]

        conversation = self._conversation(prefix, contract, scope)
        return await conversation.run(self._plan.persona.name, ask, [])

    # -- the structured output of the whole ----------------------------------------------------------------

    async def _final_output(
        self, given: Sequence[ModelMessage], contract: OutputContract, answered: Any
    ) -> Any:
        """The structured output; `answered`, the conversation's own, where a schema that is a guide led to none."""
        key = "final_output"
        entry = self._attempt.replay.entry(key)
        if entry is not None:
            return entry["value"]

        async def ask(speaker: Speaker) -> Sequence[UserContent]:
            return [f"Now give {contract.title}: the structured result of this whole conversation."]

        final = self._conversation("final", contract, {"phase": key})
        try:
            output = await final.run(self._plan.persona.name, ask, given)
            content, violations = output, contract.violations(contract.wrap(output))
            event = events.final_output(contract.title, content, [one.to_json() for one in violations])
        except (OutputInvalid, ModelRefused) as failure:
            if not contract.lenient or failure.code not in _GAVE_NONE:
                raise
            output = answered
            event = events.final_output(contract.title, None, [_none_given(failure)])
        await self._attempt.end(Entry(key, "value", contract.name, "read"), output, events=(event,))
        return output


def _none_given(failure: AgentError) -> dict[str, str]:
    return {"field": "output", "code": str(failure.code), "message": failure.message}


def _texts(said: Sequence[Any]) -> list[str]:
    return [one if isinstance(one, str) else str(one) for one in said]
