"""What a model turn costs: by the operator's list RUNYARD_MODEL_PRICES, else by genai-prices' public one."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_common.agents.rules import model_prices


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one turn; `input` includes those that were `cached`."""

    input: int
    output: int
    cached: int = 0


class PriceList:
    """The operator's price list."""

    def __init__(self, text: str = "") -> None:
        """Raises `ConfigurationError` for a list that cannot be read."""
        self._prices = model_prices.parse(text)

    def cost_micros(self, tokens: Tokens, *names: str) -> int | None:
        """Millionths of a USD; None for a model that is not in it. `names` are tried in turn."""
        price = next((self._prices[name] for name in names if name in self._prices), None)
        if price is None:
            return None
        fresh = max(0, tokens.input - tokens.cached)
        usd_per_million = fresh * price.input + tokens.cached * price.cached + tokens.output * price.output
        return round(usd_per_million)


def public(tokens: Tokens, model: str, provider: str | None) -> int:
    """Millionths of a USD by the public list; 0 for a model without a price. Its first use takes half a second."""
    from genai_prices import Usage, calc_price

    used = Usage(
        input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=tokens.cached or None
    )
    for asked in dict.fromkeys((provider, None)):
        try:
            return round(float(calc_price(used, model, provider_id=asked).total_price) * 1_000_000)
        except (LookupError, ValueError):  # the list has no such model, or no such provider
            continue
    return 0
