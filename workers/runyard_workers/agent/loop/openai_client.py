"""OpenAI's client without what it does for each request and answer in Python and the agent library does not need.

The SDK matches every value of a request against the types that it may have, to rename keys and to write dates. The
messages and tools of the library have their final form, and the walk through the whole conversation took more CPU than
the rest of a turn: in the extra body they are sent as they are. And it makes the object of an answer, or of a token,
field by field, where pydantic does so at once for one that is as documented.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from openai import AsyncOpenAI
from openai.resources.chat import AsyncChat
from openai.resources.chat.completions import AsyncCompletions
from openai.resources.responses import AsyncResponses
from pydantic import BaseModel, ValidationError

_AS_THEY_ARE: Final = ("messages", "input", "tools")


class _Completions(AsyncCompletions):
    async def create(self, *, extra_body: Any = None, **params: Any) -> Any:
        return await super().create(messages=[], extra_body=_moved(params, extra_body), **params)


class _Chat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncCompletions:
        return _Completions(self._client)


class _Responses(AsyncResponses):
    async def create(self, *, extra_body: Any = None, **params: Any) -> Any:
        return await super().create(extra_body=_moved(params, extra_body), **params)


class Client(AsyncOpenAI):
    """`AsyncOpenAI`, for requests whose messages and tools are plain JSON values."""

    def _process_response_data(self, *, data: Any, cast_to: Any, response: Any) -> Any:
        if isinstance(cast_to, type) and issubclass(cast_to, BaseModel):
            with suppress(ValidationError):
                return cast_to.model_validate(data)
        return super()._process_response_data(data=data, cast_to=cast_to, response=response)

    @cached_property
    def chat(self) -> AsyncChat:
        return _Chat(self)

    @cached_property
    def responses(self) -> AsyncResponses:
        return _Responses(self)


def _moved(params: dict[str, Any], extra_body: Any) -> dict[str, Any]:
    """The long parameters, taken out of the others, with what the caller's extra body overrides."""
    long = {name: params.pop(name) for name in _AS_THEY_ARE if name in params}
    return {**long, **(extra_body or {})}
