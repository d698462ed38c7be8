"""A model whose answers are written down beforehand, for tests of agents."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.tools import ToolDefinition

from runyard.testing import Call, Prompt, Turn
from runyard_workers.agent.loop.models import Chosen


class ScriptedModels:
    """Gives every agent the same script; see `Models`."""

    def __init__(self, script: Sequence[Turn]) -> None:
        self._script = list(script)
        self.prompts: list[Prompt] = []
        self._chosen = Chosen(
            FunctionModel(self._whole, stream_function=self._pieces), "scripted", reports_end=False
        )

    def get(self, name: str | None) -> Chosen:
        """The scripted model, under any name."""
        return self._chosen

    def loaded(self, name: str | None) -> bool:
        """Always."""
        return True

    async def aclose(self) -> None:
        """Nothing to close."""

    async def _whole(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=self._next(messages, info))

    async def _pieces(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        for index, part in enumerate(self._next(messages, info)):
            if isinstance(part, TextPart):
                for piece in re.findall(r"\s*\S+\s*$|\s*\S+", part.content):
                    yield piece
            else:
                args = part.args if isinstance(part.args, str) else json.dumps(part.args)
                yield {
                    index: DeltaToolCall(name=part.tool_name, json_args=args, tool_call_id=part.tool_call_id)
                }

    def _next(self, messages: list[ModelMessage], info: AgentInfo) -> list[TextPart | ToolCallPart]:
        prompt = prompt_of(messages, info.instructions, (*info.function_tools, *info.output_tools))
        self.prompts.append(prompt)
        if not self._script:
            raise AssertionError(f"The script has no answer for turn {len(self.prompts)}: {prompt.text!r}")
        turn = self._script.pop(0)
        return _parts(turn(prompt) if callable(turn) else turn, info)


def _parts(turn: Any, info: AgentInfo) -> list[TextPart | ToolCallPart]:
    if isinstance(turn, Exception):
        raise turn
    if isinstance(turn, str):
        return [TextPart(turn)]
    if isinstance(turn, Call):
        return [ToolCallPart(turn.tool, dict(turn.arguments))]
    if isinstance(turn, Mapping):
        bound = next(
            (tool.name for tool in info.output_tools if not tool.name.startswith("transfer_to_")), None
        )
        return [ToolCallPart(bound, dict(turn))] if bound else [TextPart(json.dumps(dict(turn)))]
    return [part for one in turn for part in _parts(one, info)]


def prompt_of(
    messages: Sequence[ModelMessage], instructions: str | None, tools: Sequence[ToolDefinition]
) -> Prompt:
    """What a model was asked, as tests see it."""
    last = messages[-1]
    results = [part.content for part in last.parts if isinstance(part, ToolReturnPart)]
    texts = [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart)
    ]
    return Prompt(
        instructions or "",
        _text(texts[-1]) if texts else "",
        tuple(results),
        tuple(tool.name for tool in tools),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(item if isinstance(item, str) else f"[{item.kind}]" for item in content)
