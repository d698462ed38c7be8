"""What a model turn cost: by the operator's price list, else by the public one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import genai_prices.data  # noqa: F401 - half a second, else taken from the first turn's runs
from pydantic_ai.messages import ModelResponse

from common.domain.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class _Price:
    """USD per million tokens; `cached` input tokens may be cheaper."""

    input: float
    output: float
    cached: float


class Prices:
    """RUNYARD_MODEL_PRICES ``{model: {input, output, cached?}}`` over genai-prices' public list."""

    def __init__(self, text: str = "") -> None:
        """Raises `ConfigurationError` for a price list that cannot be read."""
        try:
            given: dict[str, Any] = json.loads(text) if text.strip() else {}
            self._prices = {
                name: _Price(float(p["input"]), float(p["output"]), float(p.get("cached", p["input"])))
                for name, p in given.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigurationError(
                "RUNYARD_MODEL_PRICES is JSON {model: {input, output, cached?}} in USD per million tokens: "
                f"{error}.",
                field="RUNYARD_MODEL_PRICES",
            ) from None

    def cost_micros(self, response: ModelResponse, *names: str) -> int:
        """Millionths of a USD; 0 for a model nobody has a price for. `names` are tried in turn."""
        price = next((self._prices[name] for name in names if name in self._prices), None)
        if price is None:
            return _public(response)
        usage = response.usage
        fresh = max(0, usage.input_tokens - usage.cache_read_tokens)
        usd_per_million = (
            fresh * price.input + usage.cache_read_tokens * price.cached + usage.output_tokens * price.output
        )
        return round(usd_per_million)


def _public(response: ModelResponse) -> int:
    if not response.model_name:
        return 0
    try:
        return round(float(response.cost().total_price) * 1_000_000)
    except (LookupError, AssertionError, ValueError):  # the list has no such model
        return 0
