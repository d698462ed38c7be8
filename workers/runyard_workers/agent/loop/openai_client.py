"""OpenAI's client without its walk through the whole conversation before each request.

The SDK matches every value of a request against the types that it may have, to rename keys and to write dates. The
messages and tools of the agent library have their final form, and the walk took more CPU than the rest of a turn: in
the extra body they are sent as they are.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from openai import AsyncOpenAI
from openai.resources.chat import AsyncChat
from openai.resources.chat.completions import AsyncCompletions
from openai.resources.responses import AsyncResponses

_AS_THEY_ARE = ("messages", "input", "tools")


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
