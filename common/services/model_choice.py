"""Which model a run uses, by name: what admission limits count and what the worker asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.settings import Settings

#: The embedded model: its server's URL is in `model.url` in the home.
LOCAL = "local"


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


def of_mode(settings: Settings, mode: Any) -> str | None:
    """The model set for a mode (`base` is fast), if one is."""
    by_mode = {"flash": settings.model_flash, "max": settings.model_max}
    return by_mode.get(str(mode), settings.model_fast) or None
