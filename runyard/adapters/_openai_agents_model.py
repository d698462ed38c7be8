"""Models of the OpenAI Agents SDK whose answers are model turns, and these answers as the journal keeps them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from agents import ModelProvider, ModelResponse, Usage
from agents.exceptions import ModelBehaviorError
from agents.items import ItemHelpers
from agents.models.interface import Model
from agents.retry import ModelRetryAdvice, ModelRetryNormalizedError
from agents.usage import deserialize_usage, serialize_usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseIncompleteEvent,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseReasoningItem,
    ResponseTextDeltaEvent,
)
from pydantic import BaseModel, TypeAdapter

from runyard import branches
from runyard.adapters._openai_agents_streams import watched
from runyard.context import Context
from runyard.errors import AgentError, ProviderError
from runyard.turns import ModelTurn, ToolCall

#: The agent whose turn begins: a model does not know who asks it.
ASKING: Final[ContextVar[str]] = ContextVar("runyard_openai_agent", default="agent")
#: What most answers consist of; every other item is found by the union of all, which takes ten times as long.
_KINDS: Final[dict[str, type[BaseModel]]] = {
    "message": ResponseOutputMessage,
    "function_call": ResponseFunctionToolCall,
    "reasoning": ResponseReasoningItem,
}
#: Events of a stream that end it with a failure, and the status that their codes would have had.
_FAILURES: Final = ("response.failed", "error", "response.error")
_STATUSES: Final[dict[Any, int]] = {
    None: 500, "server_error": 500, "rate_limit_exceeded": 429, "vector_store_timeout": 500,
}  # fmt: skip
_ITEM: Final[TypeAdapter[Any]] = TypeAdapter(ResponseOutputItem)


class Journaling(Protocol):
    """What a model needs of the journal of its run."""

    ctx: Context
    stream: bool

    def whose(self, name: str) -> str | None:
        """The agent that the log names; None for the run's own."""

    async def before(self, tools: Sequence[Any], items: Any) -> None:
        """Called before each request with the tools on offer and the conversation."""

    def answered(self, calls: Sequence[ToolCall]) -> None:
        """Called with the calls of each answer, now or from the journal."""

    def failed(self, failure: AgentError) -> None:
        """Called with the failure of a turn."""


class JournaledProvider(ModelProvider):
    """Gives the models of another provider, journaled."""

    def __init__(self, journal: Journaling, inner: ModelProvider) -> None:
        self.journal = journal
        self._inner = inner

    def get_model(self, model_name: str | None) -> Model:
        """See `ModelProvider`."""
        return JournaledModel(self.journal, self._inner.get_model(model_name))

    async def aclose(self) -> None:
        """See `ModelProvider`."""
        await self._inner.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class JournaledModel(Model):
    """A model that is asked for what the journal does not have."""

    def __init__(self, journal: Journaling, inner: Model) -> None:
        self.journal = journal
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._inner._cleanup_on_run_end(owner)

    def get_retry_advice(self, request: Any) -> ModelRetryAdvice:
        """What the settings of the agent try again is within a turn: nothing is tried again outside of it."""
        return ModelRetryAdvice(suggested=False, normalized=ModelRetryNormalizedError(is_abort=True))

    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **given: Any
    ) -> ModelResponse:
        """Answer from the journal, or ask the model and put its answer on record."""
        request = _Request(self._inner, (system_instructions, input, *args), given)
        ask = request.streamed if self.journal.stream else request.whole
        return await self._turn(request, partial(ask, self.journal.ctx.token))

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **given: Any
    ) -> AsyncIterator[Any]:
        """The events of an answer as they come; of one from the journal only the last, which has the whole."""
        request = _Request(self._inner, (system_instructions, input, *args), given)
        events: asyncio.Queue[Any] = asyncio.Queue()
        turn = asyncio.create_task(self._turn(request, partial(request.passed_on, events.put_nowait)))
        turn.add_done_callback(lambda _: events.put_nowait(None))
        last: Any = None
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, ResponseCompletedEvent):
                    last = event  # its turn is on record before the agent goes on
                else:
                    yield event
            response = await turn
        finally:
            if not turn.done():
                turn.cancel()
                await asyncio.wait({turn})
        yield last or _completed(response, str(getattr(self._inner, "model", "")))

    async def _turn(self, request: _Request, ask: Callable[[], Awaitable[ModelResponse]]) -> ModelResponse:
        journal, name = self.journal, ASKING.get()
        await journal.before(request.tools, request.items)
        call = partial(self._ask, request, ask)
        try:
            with branches.in_library():
                value = await journal.ctx.model_turn(
                    name, call, agent=journal.whose(name), asked=request.asked
                )
        except AgentError as failure:
            journal.failed(failure)
            raise
        response = unpacked(value)
        journal.answered(_calls(response))
        return response

    async def _ask(self, request: _Request, ask: Callable[[], Awaitable[ModelResponse]]) -> ModelTurn:
        response = await request.tried(ask)
        model = request.model or str(getattr(self._inner, "model", "") or "unknown")
        usage = response.usage
        messages = [item for item in response.output if isinstance(item, ResponseOutputMessage)]
        return ModelTurn(
            packed(response),
            model.rpartition("/")[2],
            model.rpartition("/")[0].rpartition("/")[2] or _provider(self._inner),
            usage.input_tokens,
            usage.output_tokens,
            usage.input_tokens_details.cached_tokens or 0,
            "".join(ItemHelpers.extract_text(item) or "" for item in messages),
            "\n".join(_thoughts(response)),
            _calls(response),
            request.finish_reason,
        )


class _Request:
    """One request to a model."""

    def __init__(self, model: Model, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        names = (
            "system_instructions",
            "input",
            "model_settings",
            "tools",
            "output_schema",
            "handoffs",
            "tracing",
        )
        self._model = model
        self._given = dict(zip(names, args, strict=False)) | given
        self.model: str | None = None  # the name that the answer has
        self.finish_reason: str | None = None

    @property
    def tools(self) -> Sequence[Any]:
        """The tools on offer."""
        found: Sequence[Any] = self._given.get("tools") or ()
        return found

    @property
    def items(self) -> Any:
        """The conversation."""
        return self._given.get("input")

    @property
    def asked(self) -> str:
        """What is asked, as a text: by it this turn is found among those of other runs at the same time."""
        asked = [self._given.get("system_instructions"), self.items]
        return json.dumps(asked, sort_keys=True, default=str)

    async def tried(self, ask: Callable[[], Awaitable[ModelResponse]]) -> ModelResponse:
        """Ask, again where the agent's settings have it so."""
        retry = getattr(self._given.get("model_settings"), "retry", None)
        if retry is None:
            return await ask()
        from agents.run_internal.model_retry import get_response_with_retry

        async def rewind() -> None:
            """Nothing of a failed request is kept."""

        response: ModelResponse = await get_response_with_retry(
            get_response=ask,
            rewind=rewind,
            retry_settings=retry,
            get_retry_advice=self._model.get_retry_advice,
            previous_response_id=self._given.get("previous_response_id"),
            conversation_id=self._given.get("conversation_id"),
        )
        return response

    async def whole(self, token: Callable[[str], Awaitable[None]]) -> ModelResponse:
        """Ask for an answer in one piece."""
        return await self._model.get_response(**self._given)

    async def streamed(self, token: Callable[[str], Awaitable[None]]) -> ModelResponse:
        """Ask for a stream whose text goes to live followers."""

        async def follow(event: Any) -> None:
            if isinstance(event, ResponseTextDeltaEvent) and event.delta:
                await token(event.delta)

        return await self._gathered(follow)

    async def passed_on(self, pass_on: Callable[[Any], None]) -> ModelResponse:
        """Ask for a stream whose events go to the agent."""

        async def follow(event: Any) -> None:
            pass_on(event)

        return await self._gathered(follow)

    async def _gathered(self, follow: Callable[[Any], Awaitable[None]]) -> ModelResponse:
        done: list[Any] = []
        given, settings = self._given, self._given.get("model_settings")
        if settings is not None and settings.include_usage is None:
            # A stream of chat completions reports what it used only when it is asked to.
            given = given | {"model_settings": replace(settings, include_usage=True)}
        model, ending = watched(self._model)
        async for event in model.stream_response(**given):
            await follow(event)
            if event.type == "response.output_item.done":
                done.append(event.item)
            elif isinstance(event, ResponseCompletedEvent):
                self.finish_reason = ending.reason
                return self._response(event.response, done)
            elif isinstance(event, ResponseIncompleteEvent):
                reason = getattr(event.response.incomplete_details, "reason", None)
                raise ModelBehaviorError(
                    f"The answer of the model is incomplete: {reason or 'no reason given'}."
                )
            elif event.type in _FAILURES:
                raise ResponseFailed(event, str(getattr(self._model, "model", "")))
        raise ProviderError("The answer of the model was cut off.", code="model_stream_cut")

    def _response(self, response: Response, done: list[Any]) -> ModelResponse:
        self.model, used, usage = response.model or None, response.usage, Usage(requests=1)
        if used is not None:
            usage = Usage(
                requests=1,
                input_tokens=used.input_tokens or 0,
                output_tokens=used.output_tokens or 0,
                total_tokens=used.total_tokens or 0,
                input_tokens_details=used.input_tokens_details,
                output_tokens_details=used.output_tokens_details,
            )
        # What a stream ends with may lack the items that it had.
        return ModelResponse(
            response.output or done, usage, response.id, getattr(response, "_request_id", None)
        )


class ResponseFailed(Exception):
    """A stream reported a failure in place of its end. The attributes are what providers' own libraries call them."""

    def __init__(self, event: Any, model: str) -> None:
        error = getattr(getattr(event, "response", None), "error", None) or event
        code, message = getattr(error, "code", None), getattr(error, "message", None)
        self.status_code = _STATUSES.get(code, 400)
        self.model_name = model
        self.body = {"error": {"code": code, "message": message or f"{code or event.type}"}}
        super().__init__(f"{event.type}: {message or code}")


def _completed(response: ModelResponse, model: str) -> ResponseCompletedEvent:
    """The end of the stream of an answer from the journal."""
    whole = Response.model_construct(
        id=response.response_id or "journaled",
        created_at=0.0,
        model=model,
        object="response",
        output=response.output,
        parallel_tool_calls=True,
        tool_choice="auto",
        tools=[],
        usage=None,
    )
    return ResponseCompletedEvent.model_construct(
        response=whole, sequence_number=0, type="response.completed"
    )


# -- answers as the journal keeps them -------------------------------------------------------------------------


def packed(response: ModelResponse) -> dict[str, Any]:
    """An answer in JSON form."""
    output: list[Any] = response.output  # items of a later time may be of no class
    items = [
        one.model_dump(mode="json", exclude_unset=True, warnings=False) if isinstance(one, BaseModel) else one
        for one in output
    ]
    return {
        "output": items,
        "usage": serialize_usage(response.usage),
        "response_id": response.response_id,
        "request_id": response.request_id,
    }


def unpacked(value: Mapping[str, Any]) -> ModelResponse:
    """The answer of its JSON form."""
    items = [_item(one) for one in value["output"]]
    return ModelResponse(items, deserialize_usage(value["usage"]), value["response_id"], value["request_id"])


def _item(value: Any) -> Any:
    kind = _KINDS.get(value.get("type"))
    try:
        return kind.model_validate(value) if kind is not None else _ITEM.validate_python(value)
    except ValueError:  # an item of another provider's, or of a later time
        return value


def _calls(response: ModelResponse) -> list[ToolCall]:
    found = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    return [ToolCall(one.call_id, one.name, arguments_of(one.arguments)) for one in found]


def arguments_of(text: str | None) -> Any:
    """A call's arguments; as the text they are where they are no JSON."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def _thoughts(response: ModelResponse) -> list[str]:
    items = [item for item in response.output if isinstance(item, ResponseReasoningItem)]
    return [part.text for item in items for part in (item.content or item.summary or ())]


def _provider(model: Model) -> str | None:
    return "openai" if type(model).__module__.startswith("agents.models.openai") else None
