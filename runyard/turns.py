"""What a model answered and what a tool returned, in the terms of `Context.model_turn` and `Context.tool_call`.

For agents whose loop is their own or another library's: they report a turn in these terms, and Runyard journals it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from weakref import WeakSet

#: Tasks that make a call for another which waits for them meanwhile: the two are one sequence of calls.
STAND_INS: Final[WeakSet[Any]] = WeakSet()


@dataclass(frozen=True)
class ToolCall:
    """The model calls `tool`; `id` is what the result will be known by. `arguments` is any JSON value."""

    id: str
    tool: str
    arguments: Any = None


@dataclass(frozen=True)
class ModelTurn:
    """One answer of a model.

    `value` is what `Context.model_turn` returns, now and on every replay: any value with a JSON form, enough to make
    the answer of it again. The rest is for the run's log and bill: the name of the model that answered, `provider`
    (``openai``, ``anthropic``, …) where its price depends on it, and tokens (`input_tokens` includes `cached_tokens`).
    `cost` is in USD; None takes it from the price list.
    """

    value: Any
    model: str
    provider: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    text: str = ""
    thinking: str = ""
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: str | None = None
    cost: float | None = None


@dataclass(frozen=True)
class ToolResult:
    """What the function of `Context.tool_call` may return in place of a plain value, to name the outcome.

    ``failed``: the tool failed, and `value` is what the model gets. ``deferred``: the call did not take place; nothing
    is logged, and the next call with this id is another one. `shown` is what the log shows in place of `value`.
    """

    value: Any
    outcome: Literal["ok", "failed", "rejected", "deferred"] = "ok"
    shown: Any = ...
