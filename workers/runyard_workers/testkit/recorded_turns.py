"""Model turns of agents with a loop of their own, recorded in order with their names, or answered from a recording."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from runyard import json_form
from runyard.turns import ModelTurn, ToolCall
from runyard_common.runs.rules.journal import Step
from runyard_common.settings import Settings
from runyard_workers.agent.prices import PriceList
from runyard_workers.agent.turns import OwnLoops, Turns
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.testkit.conversation import Conversation
from runyard_workers.testkit.variations import Variations

#: Where a client is to ask that is never asked: a library makes none without an address and a key.
_NOWHERE: Final = {"base_url": "http://recorded.invalid/v1", "api_key": "recorded"}


#: Settings that name models and their providers.
_PROVIDERS: Final = (
    "model", "model_base_url", "model_api_key", "model_fallbacks", "model_prices", "anthropic_base_url",
    "google_base_url",
)  # fmt: skip


def of_environment(home: Path) -> Settings:
    """The settings for asking real models, of the environment alone. Raises `ValueError` for what is none."""
    named = {name: os.environ.get(f"RUNYARD_{name.upper()}") for name in _PROVIDERS}
    return Settings(home=home, **{name: value for name, value in named.items() if value})


class RecordedLoops(OwnLoops):
    """See `attempts.turns.OwnLoops`."""

    def __init__(self, settings: Settings, conversation: Conversation, variations: Variations) -> None:
        super().__init__(settings)
        self._price_list = PriceList(settings.model_prices)
        self._conversation, self._variations = conversation, variations

    def turns(self, attempt: Attempt) -> Turns:
        """What records the turns of this attempt."""
        return _Turns(self._price_list, attempt, self._conversation, self._variations)

    def provider(self, vendor: str) -> Mapping[str, str]:
        """The real one while it is recorded."""
        return super().provider(vendor) if self._conversation.recording else _NOWHERE


class _Turns(Turns):
    def __init__(
        self, prices: PriceList, attempt: Attempt, conversation: Conversation, variations: Variations
    ) -> None:
        super().__init__(prices, attempt)
        self._conversation, self._variations = conversation, variations

    async def _answer(self, call: Callable[[], Any], step: Step) -> ModelTurn:
        turn = self._conversation.begin({"name": step.name})
        if turn.answer is not None:
            calls = [ToolCall(**one) for one in turn.answer["tool_calls"]]
            return ModelTurn(**{**turn.answer, "tool_calls": calls})
        try:
            given = await super()._answer(call, step)
        except BaseException:
            self._conversation.failed(turn)
            raise
        answer = {one.name: json_form.convert(getattr(given, one.name)) for one in fields(ModelTurn)}
        answer["value"] = _without_headers(answer["value"])
        self._conversation.answered(turn, self._variations.known(answer, {}))
        return given


def _without_headers(value: Any) -> Any:
    """The value of a client's turn, without what a provider adds to its answers but the media type."""
    if not isinstance(value, dict) or value.keys() - {"body", "base64"} != {"status", "headers"}:
        return value
    return value | {"headers": [one for one in value["headers"] if one[0].lower() == "content-type"]}
