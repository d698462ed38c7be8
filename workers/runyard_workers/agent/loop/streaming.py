"""Live tokens: what the model says, as it says it, to whoever follows the run now."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.messages import (
    AgentStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

from runyard_workers.agent.loop.journal import Journal
from runyard_workers.agent.loop.talk import Talk

Handler = Callable[[RunContext[Any], AsyncIterable[AgentStreamEvent]], Awaitable[None]]


def token_handler(talk: Talk, journal: Journal) -> Handler:
    """Sends ``{turn, agent, kind: text | thinking | arguments, text}``; `arguments` are those of a call.

    A turn that comes from the journal sends nothing.
    """

    async def handle(_: RunContext[Any], stream: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in stream:
            piece = _piece(event)
            if piece is None or not piece[1] or not journal.live:
                continue
            kind, text = piece
            turn = talk.transcript.turn + 1
            talk.attempt.token({"turn": turn, "agent": talk.agent, "kind": kind, "text": text})

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
