"""Where pydantic-ai's loop meets the journal: every model request and every tool call passes here, and is done once.

The loop itself runs again from the top after a crash or a wait, and is given what is on record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, Mapping, Sequence
from functools import partial
from hashlib import blake2s
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    SkipModelRequest,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
)
from pydantic_ai.messages import (
    MULTI_MODAL_CONTENT_TYPES,
    AgentStreamEvent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
    UserContent,
)
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)

from runyard import branches
from runyard.adapters._pydantic_ai_checks import check_offered
from runyard.context import Context, Effect
from runyard.errors import ProviderError, Rejected
from runyard.turns import ModelTurn, ToolCall, ToolResult

#: Providers whose streams end with a finish reason: one without was cut off.
_REPORT_END: Final = ("openai", "anthropic", "google", "google-gla", "google-vertex")
#: Kinds of results that are none yet: a person's word comes first.
_DEFERRED: Final = ("approval", "deferred")
#: What a message has of the attempt that made it.
_OF_ATTEMPT: Final = ("timestamp", "run_id", "conversation_id")
_CONTENT: Final = TypeAdapter(list[UserContent])


class Journal(AbstractCapability[Any]):
    """Journals one run of an agent."""

    streaming = False

    def __init__(self, ctx: Context, name: str, effects: Mapping[str, Effect]) -> None:
        self._ctx = ctx
        self._name = name
        self._effects = effects
        self._open: dict[str, ToolCallPart] = {}  # calls of the last turn that have no result in the log yet
        self._asked = ""  # what the run has asked and was answered, as a digest
        self.live = False  # whether the model is answering now

    def get_ordering(self) -> CapabilityOrdering:
        """Outside everything else: what is on record is what came out of it all."""
        return CapabilityOrdering(position="outermost")

    # -- model turns ---------------------------------------------------------------------------------------

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: Any, handler: Any
    ) -> ModelResponse:
        """Answer from the journal, or ask the model and put its answer on record."""
        await self.close_refused(ctx.messages)
        parameters = request_context.model_request_parameters
        check_offered(self._effects, [tool.name for tool in parameters.function_tools])
        # By what this run asked its turns are found among those of another, which may run at the same time.
        self._asked = self._asked or _digest(
            _stable(ModelMessagesTypeAdapter.dump_python(request_context.messages, mode="json"))
        )
        ask = partial(self._ask, request_context, handler)
        try:
            with branches.in_library():
                value = await self._ctx.model_turn(self._name, ask, asked=self._asked)
        finally:
            self.live = False
        self._asked = _digest([self._asked, value])
        (response,) = ModelMessagesTypeAdapter.validate_python(value)
        assert isinstance(response, ModelResponse)
        outputs = _outputs(request_context)
        self._open = {part.tool_call_id: part for part in _calls(response, outputs)}
        return response

    async def _ask(self, request_context: Any, handler: Any) -> ModelTurn:
        self.live = True
        try:
            response: ModelResponse = await handler(request_context)
        except SkipModelRequest as skipped:  # another capability answers in the model's place
            response = skipped.response
        model = response.model_name or request_context.model.model_name
        details = response.provider_details or {}
        reports_end = self.streaming and request_context.model.system in _REPORT_END
        if reports_end and not details.get("finish_reason"):
            raise ProviderError(f"The answer of {model} was cut off.", code="model_stream_cut")
        calls = _calls(response, _outputs(request_context))
        return ModelTurn(
            ModelMessagesTypeAdapter.dump_python([response], mode="json"),
            model,
            response.provider_name,
            response.usage.input_tokens,
            response.usage.output_tokens,
            response.usage.cache_read_tokens,
            "".join(part.content for part in response.parts if isinstance(part, TextPart)),
            "".join(part.content for part in response.parts if isinstance(part, ThinkingPart)),
            [ToolCall(part.tool_call_id, part.tool_name, _arguments(part)) for part in calls],
            response.finish_reason,
        )

    # -- tool calls ----------------------------------------------------------------------------------------

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        """Answer from the journal, or call the tool and put its result on record."""
        name, id_ = call.tool_name, call.tool_call_id
        effect = self._effects.get(name, "idempotent")
        value = await self._ctx.tool_call(name, args, partial(_execute, handler), call_id=id_, effect=effect)
        if not (isinstance(value, dict) and value.get("kind") in _DEFERRED):
            self._open.pop(id_, None)
        return _unpacked(value)

    async def close_refused(self, messages: Sequence[ModelMessage]) -> None:
        """Log the end of calls that never reached their tool: refused for their arguments or name, or passed over."""
        last = messages[-1] if messages else None
        if not isinstance(last, ModelRequest):
            return
        for part in last.parts:
            call = self._open.pop(getattr(part, "tool_call_id", ""), None)
            if call is None:
                continue
            content = getattr(part, "content", "")
            text = part.model_response_str() if isinstance(part, ToolReturnPart) else str(content)
            await self._log(call, ToolResult(None, "failed", text))

    async def _log(self, call: ToolCallPart, result: ToolResult) -> None:
        await self._ctx.tool_call(
            call.tool_name, _arguments(call), lambda _: result, call_id=call.tool_call_id
        )

    # -- approvals -----------------------------------------------------------------------------------------

    async def decide(self, ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults:
        """Calls that need an approval are reviewed by a person, those that need a result are asked for it; at once."""
        approvals = [self._review(ctx, call) for call in requests.approvals]
        answers = [self._result(call) for call in requests.calls]
        decided = await asyncio.gather(*approvals, *answers)
        results = DeferredToolResults()
        for call, decision in zip(requests.approvals, decided, strict=False):
            results.approvals[call.tool_call_id] = decision
        for call, answer in zip(requests.calls, decided[len(approvals) :], strict=True):
            results.calls[call.tool_call_id] = answer
        return results

    async def _review(self, ctx: RunContext[Any], call: ToolCallPart) -> ToolApproved | ToolDenied:
        tool = ctx.tool_manager.get_tool_def(call.tool_name) if ctx.tool_manager is not None else None
        schema = tool.parameters_json_schema if tool is not None else None
        proposed = _arguments(call)
        try:
            approved = await self._ctx.tool_call(
                call.tool_name, proposed, _as_given, call_id=call.tool_call_id, review=True, schema=schema
            )
        except Rejected as rejection:
            self._open.pop(call.tool_call_id, None)
            return ToolDenied(rejection.message)
        return ToolApproved(override_args=None if approved == proposed else approved)

    async def _result(self, call: ToolCallPart) -> Any:
        arguments = _arguments(call)
        question = arguments.get("question") if isinstance(arguments, dict) else None
        text = question or f"What is the result of {call.tool_name}({json.dumps(arguments, default=str)})?"
        answer = await self._ctx.ask(str(text))
        self._open.pop(call.tool_call_id, None)
        await self._log(call, ToolResult(None, shown=answer))
        return answer


class StreamingJournal(Journal):
    """Sends the text of answers to live followers as it comes. A turn from the journal sends nothing."""

    streaming = True

    async def wrap_run_event_stream(
        self, ctx: RunContext[Any], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterable[AgentStreamEvent]:
        """Pass the events on, and their text to the run's followers."""
        async for event in stream:
            if self.live and (text := _text(event)):
                await self._ctx.token(text)
            yield event


def _digest(value: Any) -> str:
    return blake2s(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _stable(value: Any) -> Any:
    """What is the same in a replay of messages in JSON form."""
    if isinstance(value, list):
        return [_stable(one) for one in value]
    if isinstance(value, dict):
        return {key: _stable(one) for key, one in value.items() if key not in _OF_ATTEMPT}
    return value


def _text(event: AgentStreamEvent) -> str | None:
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
    return None


def _outputs(request_context: Any) -> set[str]:
    """The names of the tools whose call is the agent's output."""
    return {tool.name for tool in request_context.model_request_parameters.output_tools}


def _calls(response: ModelResponse, outputs: set[str]) -> list[ToolCallPart]:
    return [p for p in response.parts if isinstance(p, ToolCallPart) and p.tool_name not in outputs]


def _arguments(call: ToolCallPart) -> Any:
    """A call's arguments; as the text they are where they are no JSON."""
    if not isinstance(call.args, str):
        return call.args or {}
    try:
        return json.loads(call.args or "{}")
    except ValueError:
        return call.args


def _as_given(arguments: Any) -> ToolResult:
    return ToolResult(arguments, "deferred")


# -- results as the journal keeps them -------------------------------------------------------------------------


async def _execute(handler: Any, arguments: dict[str, Any]) -> ToolResult:
    """The tool's result, or what it has the loop do, as a value: a replay does the same."""
    try:
        content = await handler(arguments)
    except ToolFailedError as failed:
        text = str(failed.tool_failed.content)
        return ToolResult({"kind": "failed", "content": text}, "failed", text)
    except ToolRetryError as retry:
        text = str(retry.tool_retry.content)
        return ToolResult({"kind": "retry", "content": text}, "failed", text)
    except ApprovalRequired as required:
        return ToolResult({"kind": "approval", "metadata": required.metadata}, "deferred")
    except CallDeferred as deferred:
        found = {"kind": "deferred", "metadata": deferred.metadata, "of": deferred.kind}
        return ToolResult(found, "deferred")
    if not isinstance(content, ToolReturn):
        packed = _packed(content)
        return ToolResult({"kind": "ok", "content": packed}, shown=packed)
    value = _packed(content.return_value)
    more = None
    if content.content is not None:
        texts: list[Any] = [content.content] if isinstance(content.content, str) else list(content.content)
        more = _CONTENT.dump_python(texts, mode="json")
    packed = {"kind": "return", "value": value, "content": more, "metadata": content.metadata}
    return ToolResult(packed, shown=value)


def _packed(content: Any) -> Any:
    """The content, with images and other files in base64; the rest is put into its JSON form by the journal."""
    members = content if isinstance(content, list | tuple) else (content,)
    if not any(isinstance(one, MULTI_MODAL_CONTENT_TYPES) for one in members):
        return content
    part = ToolReturnPart("_", content, tool_call_id="_")
    dumped = ModelMessagesTypeAdapter.dump_python([ModelRequest(parts=[part])], mode="json")
    return dumped[0]["parts"][0]["content"]


def _content(packed: Any) -> Any:
    part = {"part_kind": "tool-return", "tool_name": "_", "tool_call_id": "_", "content": packed}
    (message,) = ModelMessagesTypeAdapter.validate_python([{"kind": "request", "parts": [part]}])
    return message.parts[0].content  # type: ignore[union-attr]


def _unpacked(value: Any) -> Any:
    """What the tool returned or raised. A value that was not packed is an operator's own result."""
    kind = value.get("kind") if isinstance(value, dict) else None
    match kind:
        case "ok":
            return _content(value["content"])
        case "return":
            more = value["content"]
            content = None if more is None else _CONTENT.validate_python(more)
            return ToolReturn(_content(value["value"]), content=content, metadata=value["metadata"])
        case "failed":
            raise ToolFailed(value["content"])
        case "retry":
            raise ModelRetry(value["content"])
        case "approval":
            raise ApprovalRequired(value["metadata"])
        case "deferred":
            raise CallDeferred(value["metadata"], kind=value["of"])
    return value
