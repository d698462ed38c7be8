"""Which model a run uses, by name: what admission limits count and what the worker asks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runyard import extras
from runyard_common.settings import Settings
from runyard_common.values.errors import InvalidRequest

#: The embedded model: its server's URL is in `model.url` in the home.
LOCAL = "local"
#: Providers by the name before the colon, with the environment variables that may hold their key.
KEYS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("openai", "openai-chat", "openai-responses"), ("OPENAI_API_KEY",)),
    "anthropic": ("ANTHROPIC_API_KEY",),
    **dict.fromkeys(("google", "google-gla", "gemini"), ("GOOGLE_API_KEY", "GEMINI_API_KEY")),
}
#: Those that `RUNYARD_MODEL_BASE_URL` does not stand in for: they speak protocols of their own.
OWN_PROTOCOL: Final = frozenset({"anthropic", "google", "google-gla", "gemini"})
#: The library that speaks with a provider, and the extra that brings it; with any other, as with OpenAI.
_LIBRARIES: Final = {
    "anthropic": ("anthropic", "anthropic"),
    **dict.fromkeys(("google", "google-gla", "gemini"), ("google.genai", "google")),
}


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Chooses the models of runs. `keyed`: this process has the providers' keys, and refuses what it has none for."""

    settings: Settings
    keyed: bool = True

    def of(self, manifest: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        """See `model_name`; `InvalidRequest` unknown_model or model_key_missing for one that cannot be asked."""
        name = model_name(self.settings, manifest, options)
        if name is not None and self.keyed:
            check(self.settings, name)
        return name


def check(settings: Settings, name: str, environ: Mapping[str, str] = os.environ) -> None:
    """Whether a model can be asked here: `InvalidRequest` unknown_model, model_key_missing (field model).

    A provider's own list of names is its own: a name it does not know fails the run when it is asked.
    """
    provider = check_name(settings, name)
    if provider and not any(environ.get(key) for key in KEYS[provider]):
        raise InvalidRequest(
            f"The model {name!r} needs a key: set {' or '.join(KEYS[provider])} where the api and the workers run.",
            code="model_key_missing",
            field="model",
        )


def check_name(settings: Settings, name: str) -> str:
    """The provider whose key a model needs, "" for none. `InvalidRequest` unknown_model where none has the name."""
    provider, _, bare = name.partition(":")
    if name == LOCAL or (settings.model_base_url and provider not in OWN_PROTOCOL):
        return ""
    if provider not in KEYS or not bare:
        raise InvalidRequest(
            f"There is no model {name!r} here. Name one as openai:…, anthropic:… or google:…; any other name needs "
            "an OpenAI-compatible server at RUNYARD_MODEL_BASE_URL.",
            code="unknown_model",
            field="model",
        )
    return provider


def check_library(name: str) -> None:
    """Whether this process can import what speaks with a model: `InvalidRequest` missing_extra (field model)."""
    provider = name.partition(":")[0]
    module, extra = _LIBRARIES.get(provider, ("openai", "openai"))
    if name == LOCAL:
        extra = "local"
    if not extras.installed(module):
        raise InvalidRequest(extras.advice(f"The model {name!r}", extra), code="missing_extra", field="model")


def model_name(settings: Settings, manifest: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    """The model of a run, ``provider:name``; None where none is configured.

    In order: the request's `model`; its `mode`, where that mode has a model of its own; the agent's model; the
    model of the agent's mode; `RUNYARD_MODEL`; the embedded one, while it runs.
    """
    config: Mapping[str, Any] = manifest.get("config") or {}
    asked, own = options.get("mode"), manifest.get("mode") or config.get("mode")
    chosen = (
        options.get("model")
        or (of_mode(settings, asked) if asked else None)
        or manifest.get("model")
        or config.get("model")
        or of_mode(settings, own or asked)
        or settings.model
    )
    if isinstance(chosen, str) and chosen.strip():
        return chosen.strip()
    return LOCAL if (settings.home / "model.url").exists() else None


def local_url(home: Path) -> str:
    """The base URL of the embedded model. A restart of its server may change it. `OSError` while there is none."""
    url = (home / "model.url").read_text().strip().rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


def of_mode(settings: Settings, mode: Any) -> str | None:
    """The model set for a mode (`base` is fast), if one is."""
    by_mode = {"flash": settings.model_flash, "max": settings.model_max}
    return by_mode.get(str(mode), settings.model_fast) or None
