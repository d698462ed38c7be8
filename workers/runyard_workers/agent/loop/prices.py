"""What a model turn cost: by the operator's price list, else by the public one."""

from __future__ import annotations

import genai_prices.data  # noqa: F401 - half a second, else taken from the first turn's runs
from pydantic_ai.messages import ModelResponse

from runyard_common.agents.rules import model_prices


class Prices:
    """RUNYARD_MODEL_PRICES ``{model: {input, output, cached?}}`` over genai-prices' public list."""

    def __init__(self, text: str = "") -> None:
        """Raises `ConfigurationError` for a price list that cannot be read."""
        self._prices = model_prices.parse(text)

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
