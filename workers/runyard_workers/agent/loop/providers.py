"""A provider's model as the library's object, on the shared HTTP client and without retries of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import httpx2
from openai import AsyncOpenAI
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from runyard_common.agents.service.model_choice import KEYS
from runyard_common.settings import Settings
from runyard_workers.agent.loop.masking import remember


def build(provider: str, name: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    """The model `name` of a provider that `model_choice.check` accepts; its key is in the environment."""
    key = next(found for variable in KEYS[provider] if (found := os.environ.get(variable)))
    remember(key)
    return _BUILDERS[provider](name, key, settings, http)


def compatible(name: str, base_url: str, key: str, http: httpx2.AsyncClient) -> Model:
    """A model behind any server that speaks OpenAI's chat completions."""
    remember(key)
    client = AsyncOpenAI(base_url=base_url, api_key=key or "none", max_retries=0, http_client=http)
    return OpenAIChatModel(name, provider=OpenAICompatibleProvider("compatible", openai_client=client))


def _openai(name: str, key: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    return OpenAIChatModel(name, provider=_openai_provider(key, http))


def _openai_responses(name: str, key: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    return OpenAIResponsesModel(name, provider=_openai_provider(key, http))


def _openai_provider(key: str, http: httpx2.AsyncClient) -> OpenAIProvider:
    return OpenAIProvider(openai_client=AsyncOpenAI(api_key=key, max_retries=0, http_client=http))


def _anthropic(name: str, key: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    base_url = settings.anthropic_base_url or None
    client = AsyncAnthropic(api_key=key, base_url=base_url, max_retries=0, http_client=http)
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))


def _google(name: str, key: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    base_url = settings.google_base_url or None
    return GoogleModel(name, provider=GoogleProvider(api_key=key, base_url=base_url, http_client=http))


_BUILDERS: Final[dict[str, Callable[[str, str, Settings, httpx2.AsyncClient], Model]]] = {
    "openai": _openai,
    "openai-chat": _openai,
    "openai-responses": _openai_responses,
    "anthropic": _anthropic,
    **dict.fromkeys(("google", "google-gla", "gemini"), _google),
}
