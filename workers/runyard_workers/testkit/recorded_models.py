"""Models of declared agents that record what they are asked and answer, or answer from a recording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from runyard.testing import Prompt
from runyard_workers.agent.loop.messages import arguments_of
from runyard_workers.agent.loop.models import Chosen, Models
from runyard_workers.agent.loop.scripted import prompt_of
from runyard_workers.testkit.conversation import UNNAMED, Conversation, Turn, lines_of
from runyard_workers.testkit.variations import Variations, restored

_SETTINGS: Final = ("temperature", "max_tokens")


class RecordedModels:
    """See `Models`. `inner` are the real ones, asked while a conversation is recorded; `default` is RUNYARD_MODEL."""

    def __init__(
        self, conversation: Conversation, variations: Variations, inner: Models | None, default: str
    ) -> None:
        self._conversation, self._variations = conversation, variations
        self._inner, self._default = inner, default
        self.prompts: list[Prompt] = []

    def get(self, name: str | None) -> Chosen:
        """The model of this name, which records, or one that answers from the recording."""
        named = "" if name in (None, UNNAMED) else str(name)
        if self._inner is None:
            model: Model = FunctionModel(_unasked, stream_function=_unasked_stream)
            chosen = Chosen(model, named or self._conversation.model, reports_end=False)
        else:
            chosen = self._inner.get(named or self._default)
            model = chosen.model
        recorded = _Model(model, self._conversation, self._variations, self.prompts, named)
        return Chosen(recorded, chosen.name, chosen.reports_end)

    def loaded(self, name: str | None) -> bool:
        """See `Models.loaded`."""
        return self._inner is None or self._inner.loaded(self._default if name in (None, UNNAMED) else name)

    async def aclose(self) -> None:
        """Close the real ones."""
        if self._inner is not None:
            await self._inner.aclose()


class _Model(WrapperModel):
    """One model of a conversation. `named`: its name where the agent or the request names it."""

    def __init__(
        self,
        wrapped: Model,
        conversation: Conversation,
        variations: Variations,
        prompts: list[Prompt],
        named: str,
    ) -> None:
        super().__init__(wrapped)
        self._conversation, self._variations = conversation, variations
        self._prompts, self._named = prompts, named

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask, or answer from the recording."""
        turn, ids = self._begin(messages, model_settings, model_request_parameters)
        if turn.answer is not None:
            return self._recorded(turn, ids)
        try:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        except BaseException:
            self._conversation.failed(turn)
            raise
        self._answered(turn, response, ids)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """The same, in pieces; a recorded text comes in one."""
        turn, ids = self._begin(messages, model_settings, model_request_parameters)
        if turn.answer is not None:
            response = self._recorded(turn, ids)
            yield CompletedStreamedResponse(
                response, model_request_parameters=model_request_parameters, replay_events=True
            )
            return
        try:
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream
                response = stream.get()
        except BaseException:
            self._conversation.failed(turn)
            raise
        self._answered(turn, response, ids)

    def _begin(
        self,
        messages: Sequence[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> tuple[Turn, dict[str, str]]:
        tools = [*parameters.function_tools, *parameters.output_tools]
        system = _system(messages)
        self._prompts.append(prompt_of(messages, system, tools))
        asked: dict[str, Any] = {"model": self._named} if self._named else {}
        asked |= {key: value for key in _SETTINGS if (value := (settings or {}).get(key)) is not None}
        ids: dict[str, str] = {}
        new = self._new([part for one in messages for part in _parts(one)])
        # All of it, so that ids have the numbers of the whole conversation.
        self._variations.removed([_parts(one) for one in messages], ids)
        asked = self._variations.removed(asked | {"system": system, "messages": new}, ids)
        asked["tools"] = {tool.name: self._variations.removed(_tool(tool), ids) for tool in tools}
        asked["tools"] = {name: _digest(tool) for name, tool in asked["tools"].items()}
        asked["system"] = lines_of(asked["system"])
        return self._conversation.begin(asked), ids

    def _new(self, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What came after the last answer of this conversation: with the first turn, what earlier runs had."""
        own = [
            at for at, part in enumerate(parts) if _written(part.get("answer")) in self._conversation.answers
        ]
        return parts[own[-1] + 1 :] if own else parts

    def _answered(self, turn: Turn, response: ModelResponse, ids: dict[str, str]) -> None:
        self._conversation.answers |= {_written(_answer_part(part)) for part in response.parts}
        self._conversation.answered(turn, self._variations.known(_answer(response), ids))

    def _recorded(self, turn: Turn, ids: dict[str, str]) -> ModelResponse:
        number = self._conversation.number(turn)
        response = _response(restored(turn.answer, ids), f"call_{number}")
        self._conversation.answers |= {_written(_answer_part(part)) for part in response.parts}
        return response


# -- what was asked ----------------------------------------------------------------------------------------


def _system(messages: Sequence[ModelMessage]) -> str:
    requests = [one for one in messages if isinstance(one, ModelRequest)]
    parts = [part.content for one in requests for part in one.parts if isinstance(part, SystemPromptPart)]
    return "\n\n".join([*parts, *([requests[-1].instructions or ""] if requests else [])])


def _parts(message: ModelMessage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            found.append({"user": _content(part.content)})
        elif isinstance(part, ToolReturnPart):
            found.append({"result_of": part.tool_name, "result": _json(part.content)})
        elif isinstance(part, RetryPromptPart):
            found.append({"refused": part.tool_name, "because": lines_of(part.model_response())})
        elif isinstance(part, TextPart | ThinkingPart | ToolCallPart):
            found += [] if isinstance(part, ThinkingPart) else [{"answer": _answer_part(part)}]
    return found


def _written(answer: Any) -> str:
    return "" if answer is None else json.dumps(answer, sort_keys=True)


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return lines_of(content)
    items = [lines_of(one) if isinstance(one, str) else _described(one) for one in content]
    return items[0] if len(items) == 1 else items


def _described(item: Any) -> str:
    data = getattr(item, "data", None)
    if isinstance(data, bytes):
        return f"[{item.media_type}, {len(data)} bytes, {hashlib.sha256(data).hexdigest()[:16]}]"
    return f"[{item.kind}] {getattr(item, 'url', '')}".strip()


def _json(value: Any) -> Any:
    if isinstance(value, str):
        return lines_of(value)
    return json.loads(json.dumps(value, default=str))


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    return {"about": tool.description or "", "takes": _json(tool.parameters_json_schema)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


# -- what it answered --------------------------------------------------------------------------------------


def _answer_part(part: Any) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.content}
    if isinstance(part, ThinkingPart):
        return {"thinking": part.content}
    assert isinstance(part, ToolCallPart), f"A recording has no form for {type(part).__name__}."
    arguments = arguments_of(part)
    return {"call": part.tool_name, "arguments": arguments if isinstance(arguments, dict) else part.args}


def _answer(response: ModelResponse) -> dict[str, Any]:
    usage = response.usage
    counts = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {
        "parts": [_answer_part(part) for part in response.parts],
        "model": response.model_name,
        "provider": response.provider_name,
        "finish_reason": response.finish_reason,
        "usage": {name: count for name in counts if (count := getattr(usage, name))},
    }


def _response(answer: dict[str, Any], prefix: str) -> ModelResponse:
    parts: list[TextPart | ThinkingPart | ToolCallPart] = []
    for number, part in enumerate(answer["parts"], 1):
        if "text" in part:
            parts.append(TextPart(part["text"]))
        elif "thinking" in part:
            parts.append(ThinkingPart(part["thinking"]))
        else:  # the provider's id of a call is another in each conversation
            parts.append(ToolCallPart(part["call"], part["arguments"], tool_call_id=f"{prefix}_{number}"))
    return ModelResponse(
        parts=parts,
        model_name=answer["model"],
        provider_name=answer["provider"],
        finish_reason=answer["finish_reason"],
        usage=RequestUsage(**answer["usage"]),
    )


async def _unasked(*_: Any) -> ModelResponse:
    raise AssertionError("A recording answers by itself.")


def _unasked_stream(*_: Any) -> AsyncGenerator[str]:
    raise AssertionError("A recording answers by itself.")
