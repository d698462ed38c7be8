"""The models agents may be made for: those the installation's settings name."""

from __future__ import annotations

from typing import Any

import orjson

from runyard_common.agents.service import model_choice
from runyard_common.agents.service.model_choice import LOCAL
from runyard_common.settings import Settings
from runyard_common.values.errors import InvalidRequest

#: The longest name of a model, in characters.
_LONGEST = 128


def available(settings: Settings) -> list[dict[str, str]]:
    """Each model as {id, name, base_model}: the default first, then those of modes, fallbacks and prices."""
    named = [settings.model, settings.model_flash, settings.model_fast, settings.model_max]
    named += settings.model_fallbacks.split(",")
    named += _priced(settings.model_prices)
    if (settings.home / "model.url").exists():
        named.append(LOCAL)
    ids = dict.fromkeys(name.strip() for name in named if name.strip())
    return [{"id": id_, "name": name_of(id_), "base_model": name_of(id_)} for id_ in ids]


def name_of(model: str) -> str:
    """A model's name without its provider."""
    return model.partition(":")[2] or model


def chosen(settings: Settings, wanted: str) -> str:
    """The id of the model that `wanted` (an id, or a name) means: a listed one, or any other that runs can ask here.

    Errors: `InvalidRequest` unknown_model, model_key_missing.
    """
    known = available(settings)
    for key in ("id", "name"):
        for model in known:
            if model[key] == wanted:
                return model["id"]
    provider, prefixed, _ = wanted.partition(":")
    if (
        known
        and wanted.strip()
        and len(wanted) <= _LONGEST
        and (not prefixed or provider in model_choice.KEYS)
    ):
        try:
            model_choice.check(settings, wanted)
            return wanted
        except InvalidRequest as refused:
            if refused.code != "unknown_model":
                raise
    ids = ", ".join(model["id"] for model in known)
    raise InvalidRequest(
        f"There is no model {wanted!r}. Available: {ids}."
        if known
        else "No model is configured here: set RUNYARD_MODEL.",
        code="unknown_model",
        field="model",
    )


def _priced(text: str) -> list[str]:
    try:
        prices: Any = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return []  # the worker reports what is wrong with it
    return list(prices) if isinstance(prices, dict) else []
