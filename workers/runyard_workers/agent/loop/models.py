"""The models of this process: built once, sharing one HTTP client, without retries of their own; what turns cost."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import genai_prices.data  # noqa: F401 - half a second, else spent by the first turn's runs
import httpx2
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.settings import ModelSettings

from runyard.errors import AgentError
from runyard.loopback import STRAIGHT
from runyard_common.agents.service.model_choice import (
    KEYS,
    LOCAL,
    OWN_PROTOCOL,
    check,
    check_library,
    local_url,
)
from runyard_common.settings import Settings
from runyard_common.values.errors import InvalidRequest
from runyard_workers.agent.loop.provider_errors import remember_key
from runyard_workers.agent.prices import PriceList, Tokens
from runyard_workers.agent.wire.providers import MOST_BYTES, ProviderRules
from runyard_workers.agent.wire.transport import CheckedClient

_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 600.0
#: What a model of OpenAI's protocol imports at its first use.
_OPENAI: Final = "runyard_workers.agent.loop.openai_models"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model ready to be asked. `name` is what usage is counted under unless the response names another.

    `reports_end`: its streams end with a finish reason, so that one without was cut.
    """

    model: Model
    name: str
    reports_end: bool = True
    sees_images: bool = True


class Models(Protocol):
    """Where the loop gets its models from."""

    def get(self, name: str | None) -> Chosen:
        """The model of this name; `AgentError` saying what to configure when it cannot be had."""
        ...

    def loaded(self, name: str | None) -> bool:
        """Whether `get` gives this model at once. Else it imports a provider's library, which takes seconds."""
        ...

    async def aclose(self) -> None: ...


class ProviderModels:
    """Models by ``provider:name``, over the network. One per process and event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._built: dict[str, Chosen] = {}
        self._client: httpx2.AsyncClient | None = None
        self._building = threading.Lock()  # runs that begin together import and build in threads of their own

    def get(self, name: str | None) -> Chosen:
        """See `Models.get`. With fallbacks (RUNYARD_MODEL_FALLBACKS) behind it."""
        if not name:
            raise AgentError(
                "No model is configured: set RUNYARD_MODEL (provider:name) with the provider's key, or "
                "RUNYARD_MODEL_BASE_URL, or start with `runyard up`, which brings a small local model.",
                code="model_not_configured",
            )
        with self._building:
            first = self._one(name)
            others = [self._one(other) for other in self._fallbacks() if other != name]
        if not others:
            return first
        models = [first.model, *(other.model for other in others)]
        ends = all(one.reports_end for one in (first, *others))
        return Chosen(FallbackModel(*models), first.name, ends, all(o.sees_images for o in (first, *others)))

    def loaded(self, name: str | None) -> bool:
        wanted = [name, *self._fallbacks()] if name else []
        return all(one in self._built or (one == LOCAL and _OPENAI in sys.modules) for one in wanted)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _fallbacks(self) -> list[str]:
        return [part.strip() for part in self._settings.model_fallbacks.split(",") if part.strip()]

    def _one(self, name: str) -> Chosen:
        try:
            check_library(name)
        except InvalidRequest as missing:
            raise AgentError(missing.message, code=missing.code) from None
        if name == LOCAL:
            return self._local()
        if name not in self._built:
            try:
                self._built[name] = Chosen(self._build(name), name)
            except (InvalidRequest, UserError, ValueError) as error:
                code = error.code if isinstance(error, InvalidRequest) else "model_not_configured"
                raise AgentError(f"The model {name!r} cannot be used: {error}", code=code) from error
        return self._built[name]

    def _build(self, name: str) -> Model:
        check(self._settings, name)
        provider, _, bare = name.partition(":")
        if self._settings.model_base_url and provider not in OWN_PROTOCOL:
            named = bare if provider in KEYS and bare else name
            return _compatible(
                named, self._settings.model_base_url, self._settings.model_api_key, self._http()
            )
        return _build(provider, bare, self._settings, self._http())

    def _local(self) -> Chosen:
        """The embedded model; a restart of its server may have given it another port."""
        try:
            url = local_url(self._settings.home)
        except OSError:
            raise AgentError(
                "The embedded model is not running: start with `runyard up`, or set RUNYARD_MODEL.",
                code="model_not_configured",
            ) from None
        key = f"{LOCAL} {url}"
        if key not in self._built:
            model = _compatible("local/smollm2-135m", url, "local", self._http())
            self._built[key] = Chosen(model, "local/smollm2-135m", sees_images=False)
        return self._built[key]

    def _http(self) -> httpx2.AsyncClient:
        """The shared client: building one costs 45 ms, most of it for TLS."""
        if self._client is None:
            self._client = CheckedClient(
                ProviderRules(),
                min(self._settings.max_answer_bytes, MOST_BYTES),
                timeout=httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=2000, max_keepalive_connections=200),
                follow_redirects=True,
                mounts=STRAIGHT,
            )
        return self._client


def settings_of(temperature: float | None, max_tokens: int | None, seconds: float) -> ModelSettings:
    """An agent's model settings, in the library's terms; `seconds` bounds one request."""
    settings = ModelSettings(timeout=seconds)
    if temperature is not None:
        settings["temperature"] = temperature
    if max_tokens is not None:
        settings["max_tokens"] = max_tokens
    return settings


def _build(provider: str, name: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    """The model `name` of a provider that `model_choice.check` accepts; its key is in the environment."""
    key = next(found for variable in KEYS[provider] if (found := os.environ.get(variable)))
    remember_key(key)
    return _BUILDERS[provider](name, key, settings, http)


def _compatible(name: str, base_url: str, key: str, http: httpx2.AsyncClient) -> Model:
    """A model behind any server that speaks OpenAI's chat completions."""
    from runyard_workers.agent.loop import openai_models

    remember_key(key)
    return openai_models.compatible(name, base_url, key, http)


def _openai(name: str, key: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    from runyard_workers.agent.loop import openai_models

    return openai_models.chat(name, key, http)


def _openai_responses(name: str, key: str, settings: Settings, http: httpx2.AsyncClient) -> Model:
    from runyard_workers.agent.loop import openai_models

    return openai_models.responses(name, key, http)


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


class Prices:
    """RUNYARD_MODEL_PRICES ``{model: {input, output, cached?}}`` over genai-prices' public list."""

    def __init__(self, text: str = "") -> None:
        """Raises `ConfigurationError` for a price list that cannot be read."""
        self._list = PriceList(text)

    def cost_micros(self, response: ModelResponse, *names: str) -> int:
        """Millionths of a USD; 0 for a model without a price. `names` are tried in turn."""
        usage = response.usage
        tokens = Tokens(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
        own = self._list.cost_micros(tokens, *names)
        return _public(response) if own is None else own


def _public(response: ModelResponse) -> int:
    if not response.model_name:
        return 0
    try:
        return round(float(response.cost().total_price) * 1_000_000)
    except (LookupError, AssertionError, ValueError):  # the list has no such model
        return 0
