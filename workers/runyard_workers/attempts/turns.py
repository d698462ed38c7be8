"""What a context hands over of an agent with a loop of its own: its model turns and its tool calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runyard.turns import ModelTurn


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as `Context.tool_call` was given it."""

    tool: str
    arguments: Any
    fn: Callable[[Any], Any]
    id: str
    effect: str
    review: bool
    schema: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Counted:
    """A model turn as it is counted and logged: `used` is the `ModelTurn` of `usage.queries`."""

    number: int
    used: Any
    events: Sequence[tuple[str, dict[str, Any]]]


#: Suspends the run, once the rest of its code has settled.
Suspend = Callable[[Any], Awaitable[Any]]


class Turns(Protocol):
    """Journals the turns and calls of one attempt."""

    async def model_turn(
        self, name: str, call: Callable[[], Any], agent: str | None, asked: str | None, suspend: Suspend, /
    ) -> Any:
        """See `Context.model_turn`."""

    async def tool_call(self, call: Call, suspend: Suspend, /) -> Any:
        """See `Context.tool_call`."""

    async def counted(self, turn: ModelTurn, /) -> Counted:
        """The next turn, of a loop that keeps its turns in a checkpoint log."""


class OwnLoops(Protocol):
    """What agents with a loop of their own have of the installation. `attempt` is their `Attempt`."""

    def turns(self, attempt: Any, /) -> Turns:
        """What journals the turns of this attempt."""

    def provider(self, vendor: str, /) -> Mapping[str, str]:
        """The installation's `base_url` and `api_key` for a provider; empty where the provider's own hold."""
