"""One conversation with a model, from wherever the journal left it to its output; it may move between agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, RunContext, StructuredDict, ToolOutput
from pydantic_ai.exceptions import (
    FallbackExceptionGroup,
    ModelAPIError,
    ModelRetry,
    OutputTokenLimitExceeded,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
)
from pydantic_ai.usage import UsageLimits

from runyard_common.schemas.outputs import OutputContract
from runyard_workers.agent import events
from runyard_workers.agent.failures import OutputInvalid
from runyard_workers.agent.loop.journal import Journal
from runyard_workers.agent.loop.models import settings_of
from runyard_workers.agent.loop.parts import arguments_of
from runyard_workers.agent.loop.provider_errors import no_answer, translate, truncated
from runyard_workers.agent.loop.streaming import token_handler
from runyard_workers.agent.loop.talk import Talk
from runyard_workers.agent.loop.toolset import MOST_MENDED, RunToolset
from runyard_workers.agent.loop.transcript import Transcript
from runyard_workers.agent.plan import MOST_REPAIRS, Persona
from runyard_workers.agent.tools.toolbox import identifier
from runyard_workers.agent.wire.text import clean

_LONGEST = 500
#: Characters of a tool's name.
_LONGEST_TOOL = 64
#: The library's own result of a call that is an output.
_PROCESSED = "Final result processed."


@dataclass(frozen=True, slots=True)
class Transfer:
    """The model hands the conversation to this agent."""

    to: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody ready to hold the conversation: the talk with its tools and model, and the system prompt."""

    persona: Persona
    talk: Talk
    instructions: str
    transfers: dict[str, str] = field(default_factory=dict)  # agent → description


@dataclass(slots=True)
class Conversation:
    """`speaker_of` prepares whoever speaks; `mail` gives what users said after a final answer, if anything."""

    transcript: Transcript
    speaker_of: Callable[[str], Awaitable[Speaker]]
    contract: OutputContract | None
    mail: Callable[[], Awaitable[list[str]]]
    messages: list[ModelMessage] = field(default_factory=list)

    async def run(
        self,
        first: str,
        prompt: Callable[[Speaker], Awaitable[Sequence[UserContent]]],
        given: Sequence[ModelMessage],
    ) -> Any:
        """The output: text, or the object of the contract. `first` speaks first; `given` came before.

        Raises `Suspended` when the run must wait, and `AgentError`s.
        """
        resumed = self.transcript.restore()
        name = self.transcript.agent if resumed else first
        speaker = await self.speaker_of(name)
        self.messages = self.transcript.history if resumed else list(given)
        self.transcript.given = len(given)
        said: Sequence[UserContent] | None = None if resumed else await prompt(speaker)
        while True:
            output = await self._speak(speaker, said)
            if isinstance(output, Transfer):
                speaker, said = await self.speaker_of(output.to), None
                continue
            mail = await self.mail()
            if not mail:
                return self.contract.unwrap(output) if self.contract else output
            said = mail

    async def _speak(self, speaker: Speaker, said: Sequence[UserContent] | None) -> Any:
        talk = speaker.talk
        journal = Journal(talk)
        agent = _agent(speaker, journal, self.contract)
        try:
            result = await agent.run(
                list(said) if said else None,
                message_history=self.messages,
                usage_limits=UsageLimits(request_limit=None),
                event_stream_handler=token_handler(talk, journal) if talk.streaming else None,
            )
        except UnexpectedModelBehavior as error:
            await journal.close_refused((), clean(error.message)[:_LONGEST])
            raise translate(error) or _misbehaved(error, talk, journal) from error
        except (ModelAPIError, FallbackExceptionGroup) as error:  # out of a stream, past the journal's hook
            raise translate(error) or error from error
        await journal.close_refused(result.all_messages())
        if isinstance(result.output, DeferredToolRequests):
            raise talk.suspension()
        self.messages = _handed_over(result.all_messages(), result.output)
        return result.output


def _agent(speaker: Speaker, journal: Journal, contract: OutputContract | None) -> Agent[None, Any]:
    talk, persona = speaker.talk, speaker.persona
    agent: Agent[None, Any] = Agent(
        talk.model.model,
        name=identifier(persona.name),
        instructions=speaker.instructions or None,
        output_type=[*_outputs(speaker, contract), DeferredToolRequests],
        toolsets=[RunToolset(talk)],
        capabilities=[journal],
        retries={"output": MOST_REPAIRS, "tools": MOST_MENDED},
        model_settings=settings_of(persona.temperature, persona.max_tokens, persona.seconds),
    )
    if contract is not None:
        agent.output_validator(_validator(talk, journal, contract))
    return agent


def _outputs(speaker: Speaker, contract: OutputContract | None) -> list[Any]:
    outputs: list[Any] = [str]
    if contract is not None:
        bound = StructuredDict(contract.for_model, name=contract.name, description=contract.guidance or None)
        outputs = [ToolOutput(bound, name=contract.name, strict=contract.strict, max_retries=MOST_REPAIRS)]
    speaker.talk.transfers.clear()  # of what this speaker was offered before
    for agent, description in speaker.transfers.items():
        outputs.append(_transfer(speaker.talk, agent, description))
    return outputs


def _transfer(talk: Talk, to: str, description: str) -> Any:
    name = _free_name(talk, f"transfer_to_{identifier(to.rpartition('/')[2])}"[:_LONGEST_TOOL])
    talk.transfers[name] = to

    def transfer(reason: str = "") -> Transfer:
        if name not in talk.transfers:
            raise ModelRetry(f"{to} cannot take over: there is no such agent any more. Go on yourself.")
        return Transfer(to)

    said = f"Hand the conversation over to {to}, who goes on with it. {description}".strip()
    return ToolOutput(transfer, name=name, description=said)


def _free_name(talk: Talk, wanted: str) -> str:
    """A tool's name that no other has: agents of two scopes, or of names that differ in their marks, resemble each
    other."""
    name, number = wanted, 2
    while name in talk.transfers or talk.toolbox.get(name) is not None:
        name, number = f"{wanted[: _LONGEST_TOOL - 4]}_{number}", number + 1
    return name


def _handed_over(messages: list[ModelMessage], output: Any) -> list[ModelMessage]:
    """The messages, with a hand-off's result as whoever takes over is to read it."""
    last = messages[-1] if messages else None
    if not isinstance(output, Transfer) or not isinstance(last, ModelRequest):
        return messages
    said = f"{output.to} has the conversation now. You are {output.to}: go on with it."
    parts = [
        ToolReturnPart(part.tool_name, said, part.tool_call_id)
        if isinstance(part, ToolReturnPart) and part.content == _PROCESSED
        else part
        for part in last.parts
    ]
    return [*messages[:-1], replace(last, parts=parts)]


def _validator(talk: Talk, journal: Journal, contract: OutputContract) -> Any:
    async def validate(ctx: RunContext[None], output: Any) -> Any:
        if ctx.partial_output or not isinstance(output, dict):
            return output
        violations = [violation.to_json() for violation in contract.violations(output)]
        if not violations:
            return output
        transcript = talk.transcript
        talk.violations = violations
        last = transcript.repairs >= MOST_REPAIRS
        if last and not contract.lenient:
            raise _invalid(violations)
        if journal.live:
            event = events.output_invalid(transcript.turn, violations, transcript.repairs + (not last))
            await talk.attempt.emit(*talk.told(event))
        if last:
            return _closest(ctx.messages[transcript.given :], output, contract)
        transcript.repairs += 1
        listed = "\n".join(f"- {v['field']}: {v['message']}" for v in violations)
        raise ModelRetry(f"The output breaks its schema. Give it again, whole and corrected:\n{listed}")

    return validate


def _closest(messages: Sequence[ModelMessage], output: dict[str, Any], contract: OutputContract) -> Any:
    """Of the outputs that a model gave, the last of those with the fewest violations."""
    given = [
        arguments_of(part)
        for message in messages
        for part in (message.parts if isinstance(message, ModelResponse) else ())
        if isinstance(part, ToolCallPart) and part.tool_name == contract.name
    ]
    objects = [one for one in (output, *reversed(given)) if isinstance(one, dict)]
    return min(objects, key=lambda one: len(contract.violations(one)))


def _invalid(violations: list[dict[str, str]]) -> OutputInvalid:
    first = violations[0]
    return OutputInvalid(
        f"After {MOST_REPAIRS} repairs the output still breaks its schema: {first['field']}: {first['message']}",
        violations=violations,
    )


def _misbehaved(error: UnexpectedModelBehavior, talk: Talk, journal: Journal) -> Exception:
    if isinstance(error, OutputTokenLimitExceeded):
        return truncated(talk.max_tokens)
    if journal.blank:
        return no_answer()
    contract = talk.contract
    if contract and ("output retries" in str(error) or repr(contract.name) in str(error)):
        return _invalid(
            talk.violations or [{"field": "output", "code": "type", "message": "it is no JSON object"}]
        )
    return OutputInvalid(
        f"The model did not keep to its tools: {clean(error.message)[:_LONGEST]}", code="model_misbehaved"
    )
