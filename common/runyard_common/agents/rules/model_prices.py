"""The operator's price list, RUNYARD_MODEL_PRICES: ``{model: {input, output, cached?}}``. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runyard_common.values.errors import ConfigurationError

SETTING: Final = "RUNYARD_MODEL_PRICES"


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens; `cached` input tokens may be cheaper."""

    input: float
    output: float
    cached: float


def parse(text: str) -> dict[str, Price]:
    """The prices by model. `ConfigurationError` for a list that cannot be read."""
    try:
        given: dict[str, Any] = json.loads(text) if text.strip() else {}
        return {name: _price(entry) for name, entry in given.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"{SETTING} is JSON {{model: {{input, output, cached?}}}} in USD per million tokens: {error}.",
            field=SETTING,
        ) from None


def _price(entry: Mapping[str, Any]) -> Price:
    price = Price(float(entry["input"]), float(entry["output"]), float(entry.get("cached", entry["input"])))
    for number in (price.input, price.output, price.cached):
        if not math.isfinite(number) or number < 0:
            raise ValueError(f"{number} is no price")
    return price
