"""Streams of chat completions that were cut off: the OpenAI Agents SDK makes whole answers of them, unless they are
OpenAI's own."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

from agents import OpenAIChatCompletionsModel
from agents.models.interface import Model

from runyard.errors import ProviderError


class Ending:
    """Why a stream ended, once it has."""

    reason: str | None = None


def watched(model: Model) -> tuple[Model, Ending]:
    """The model, with streams that raise `ProviderError` model_stream_cut where they end without saying why."""
    ending = Ending()
    client = getattr(model, "_client", None)
    if type(model) is not OpenAIChatCompletionsModel or client is None:
        return model, ending

    async def create(**options: Any) -> Any:
        answer = await client.chat.completions.create(**options)
        return _Stream(answer, ending) if options.get("stream") is True else answer

    completions = _With(client.chat.completions, create=create)
    copied: Any = copy.copy(model)
    copied._client = _With(client, chat=_With(client.chat, completions=completions))
    return copied, ending


class _With:
    """An object with other attributes in the place of its own."""

    def __init__(self, inner: Any, **others: Any) -> None:
        self.__dict__.update(others)
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Stream(_With):
    def __init__(self, inner: Any, ending: Ending) -> None:
        super().__init__(inner)
        self._ending = ending

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for chunk in self._inner:
            for choice in getattr(chunk, "choices", None) or ():
                self._ending.reason = choice.finish_reason or self._ending.reason
            yield chunk
        if self._ending.reason is None:
            raise ProviderError("The answer of the model was cut off.", code="model_stream_cut")
