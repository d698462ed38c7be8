"""The models of OpenAI and of every server that speaks its chat completions, the embedded one among them."""

from __future__ import annotations

import httpx2
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from runyard_workers.agent.loop.openai_client import Client


def compatible(name: str, base_url: str, key: str, http: httpx2.AsyncClient) -> Model:
    """A model behind any server that speaks OpenAI's chat completions."""
    client = Client(base_url=base_url, api_key=key or "none", max_retries=0, http_client=http)
    return OpenAIChatModel(name, provider=OpenAICompatibleProvider("compatible", openai_client=client))


def chat(name: str, key: str, http: httpx2.AsyncClient) -> Model:
    """A model of OpenAI over its chat completions."""
    return OpenAIChatModel(name, provider=_provider(key, http))


def responses(name: str, key: str, http: httpx2.AsyncClient) -> Model:
    """A model of OpenAI over its responses API."""
    return OpenAIResponsesModel(name, provider=_provider(key, http))


def _provider(key: str, http: httpx2.AsyncClient) -> OpenAIProvider:
    return OpenAIProvider(openai_client=Client(api_key=key, max_retries=0, http_client=http))
