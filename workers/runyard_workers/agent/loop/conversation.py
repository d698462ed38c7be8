"""One conversation with a model, from wherever the journal left it to its output; it may move between agents."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
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
    AgentStreamEvent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
    UserContent,
)
from pydantic_ai.usage import UsageLimits

from runyard_common.schemas.outputs import OutputContract
from runyard_workers.agent import events
from runyard_workers.agent.failures import OutputInvalid
from runyard_workers.agent.loop.journal import Journal
from runyard_workers.agent.loop.messages import arguments_of
from runyard_workers.agent.loop.models import settings_of
from runyard_workers.agent.loop.provider_errors import no_answer, translate, truncated
from runyard_workers.agent.loop.session import ModelSession
from runyard_workers.agent.loop.toolset import MOST_CORRECTED, RunToolset
from runyard_workers.agent.plan import MOST_REPAIRS
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


async def converse(
    session: ModelSession, first: str, history: Sequence[ModelMessage], task: str | None = None
) -> Any:
    """The output: text, or the object of the contract. `first` speaks first; `history` came before.

    A `task` comes before the request, or in the final session replaces it. Raises `Suspended` when the run must
    wait, and `AgentError`s.
    """
    resumed = await session.transcript.restore()
    await session.switch(session.transcript.agent if resumed else first)
    session.messages = session.transcript.history if resumed else list(history)
    session.transcript.given = len(history)
    prompt: Sequence[UserContent] = ()
    if not resumed:
        prompt = [*([task] if task else []), *([] if session.final else await session.request())]
    while True:
        output = await _answer(session, prompt)
        if isinstance(output, Transfer):
            await session.switch(output.to)
            prompt = ()
            continue
        prompt = await session.new_messages()
        if not prompt:
            return session.contract.unwrap(output) if session.contract else output


async def _answer(session: ModelSession, prompt: Sequence[UserContent]) -> Any:
    """Ask the agent that speaks until it gives an output or a hand-off."""
    journal = Journal(session)
    agent = _agent(session, journal)
    async with session.results:
        try:
            result = await agent.run(
                list(prompt) or None,
                message_history=session.messages,
                usage_limits=UsageLimits(request_limit=None),
                event_stream_handler=_token_handler(session, journal) if session.streaming else None,
            )
        except UnexpectedModelBehavior as error:
            journal.close_refused((), clean(error.message)[:_LONGEST])
            raise translate(error) or _misbehaved(error, session, journal) from error
        except (ModelAPIError, FallbackExceptionGroup) as error:  # out of a stream, past the journal's hook
            raise translate(error) or error from error
        journal.close_refused(result.all_messages())
    if isinstance(result.output, DeferredToolRequests):
        raise session.suspension()
    session.messages = _handed_over(result.all_messages(), result.output)
    return result.output


def _agent(session: ModelSession, journal: Journal) -> Agent[None, Any]:
    config = session.agent
    agent: Agent[None, Any] = Agent(
        session.model.model,
        name=identifier(config.name),
        instructions=session.instructions or None,
        output_type=[*_outputs(session), DeferredToolRequests],
        toolsets=[RunToolset(session)],
        capabilities=[journal],
        retries={"output": MOST_REPAIRS, "tools": MOST_CORRECTED},
        model_settings=settings_of(config.temperature, config.max_tokens, config.seconds),
    )
    if session.contract is not None:
        agent.output_validator(_validator(session, journal, session.contract))
    return agent


def _outputs(session: ModelSession) -> list[Any]:
    outputs: list[Any] = [str]
    contract = session.contract
    if contract is not None:
        bound = StructuredDict(contract.for_model, name=contract.name, description=contract.guidance or None)
        outputs = [ToolOutput(bound, name=contract.name, strict=contract.strict, max_retries=MOST_REPAIRS)]
    session.transfers.clear()  # what this agent was offered before
    return outputs + [_transfer(session, name, about) for name, about in session.specialists.items()]


def _transfer(session: ModelSession, to: str, description: str) -> Any:
    name = _free_name(session, f"transfer_to_{identifier(to.rpartition('/')[2])}"[:_LONGEST_TOOL])
    session.transfers[name] = to

    def transfer(reason: str = "") -> Transfer:
        if name not in session.transfers:
            raise ModelRetry(f"{to} cannot take over: there is no such agent any more. Go on yourself.")
        return Transfer(to)

    about = f"Hand the conversation over to {to}, who goes on with it. {description}".strip()
    return ToolOutput(transfer, name=name, description=about)


def _free_name(session: ModelSession, wanted: str) -> str:
    """A tool's name that no other has: agents of two scopes, or of names that differ in their marks, resemble each
    other."""
    name, number = wanted, 2
    while name in session.transfers or session.toolbox.get(name) is not None:
        name, number = f"{wanted[: _LONGEST_TOOL - 4]}_{number}", number + 1
    return name


def _handed_over(messages: list[ModelMessage], output: Any) -> list[ModelMessage]:
    """The messages, with a hand-off's result as the next agent is to read it."""
    last = messages[-1] if messages else None
    if not isinstance(output, Transfer) or not isinstance(last, ModelRequest):
        return messages
    result = f"{output.to} has the conversation now. You are {output.to}: go on with it."
    parts = [
        ToolReturnPart(part.tool_name, result, part.tool_call_id)
        if isinstance(part, ToolReturnPart) and part.content == _PROCESSED
        else part
        for part in last.parts
    ]
    return [*messages[:-1], replace(last, parts=parts)]


def _validator(session: ModelSession, journal: Journal, contract: OutputContract) -> Any:
    async def validate(ctx: RunContext[None], output: Any) -> Any:
        if ctx.partial_output or not isinstance(output, dict):
            return output
        violations = [violation.to_json() for violation in contract.violations(output)]
        if not violations:
            return output
        transcript = session.transcript
        session.violations = violations
        last = transcript.repairs >= MOST_REPAIRS
        if last and not contract.lenient:
            raise _invalid(violations)
        if journal.live:
            event = events.output_invalid(transcript.turn, violations, transcript.repairs + (not last))
            await session.attempt.emit(*session.scoped(event))
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


def _misbehaved(error: UnexpectedModelBehavior, session: ModelSession, journal: Journal) -> Exception:
    if isinstance(error, OutputTokenLimitExceeded):
        return truncated(session.agent.max_tokens)
    if journal.blank:
        return no_answer()
    contract = session.contract
    if contract and ("output retries" in str(error) or repr(contract.name) in str(error)):
        return _invalid(
            session.violations or [{"field": "output", "code": "type", "message": "it is no JSON object"}]
        )
    return OutputInvalid(
        f"The model did not use its tools as declared: {clean(error.message)[:_LONGEST]}",
        code="model_misbehaved",
    )


def _token_handler(
    session: ModelSession, journal: Journal
) -> Callable[[RunContext[Any], AsyncIterable[AgentStreamEvent]], Awaitable[None]]:
    """Sends ``{turn, agent, kind: text | thinking | arguments, text}``; `arguments` are those of a call.

    A turn that comes from the journal sends nothing.
    """

    async def handle(_: RunContext[Any], stream: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in stream:
            piece = _piece(event)
            if piece is None or not piece[1] or not journal.live:
                continue
            kind, text = piece
            turn = session.transcript.turn + 1
            session.attempt.token({"turn": turn, "agent": session.agent.name, "kind": kind, "text": text})

    return handle


def _piece(event: AgentStreamEvent) -> tuple[str, str] | None:
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return "text", text
        case PartStartEvent(part=ThinkingPart(content=text)):
            return "thinking", text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return "text", text
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text)):
            return "thinking", text or ""
        case PartStartEvent(part=ToolCallPart(args=str(text))):
            return "arguments", text
        case PartDeltaEvent(delta=ToolCallPartDelta(args_delta=str(text))):
            return "arguments", text
    return None
