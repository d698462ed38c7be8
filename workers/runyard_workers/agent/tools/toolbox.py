"""A run's tools by name: one value each, from any source, and how a call ends without a result."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from runyard.context import Effect
from runyard_common.runs.service.attempts import Asked

#: The time limit of a tool call, unless the tool has its own, in seconds.
TOOL_SECONDS = 120.0
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `key` names it across crashes: tools pass it on as their idempotency key."""

    id: str
    key: str
    turn: int
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool offered to the model. `parameters` is a JSON Schema of an object.

    `effect` decides what a crash in the middle means: read and idempotent calls are made again, an irreversible one
    waits for an operator. `review` makes every call wait for a person's approval. `source` is where the tool
    comes from (builtin, python, query, documents, agent, mcp:<server>).
    """

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[[Call], Awaitable[Any]]
    effect: Effect = "idempotent"
    review: bool = False
    source: str = "builtin"
    seconds: float = TOOL_SECONDS


class ToolFailure(Exception):
    """The call failed; the message is what the agent sees, and its run goes on."""


class Waits(Exception):
    """The call has no result until a person answers (`asked`) or a child task ends (`child_id`)."""

    def __init__(self, asked: Asked | None = None, child_id: str | None = None) -> None:
        self.asked = asked
        self.child_id = child_id
        super().__init__("the call waits")


class Toolbox:
    """Tools in the order they were added, by names that every provider accepts; a name in use gets a number."""

    def __init__(self, review: Collection[str] = ()) -> None:
        """`review` names tools that need approval: as the agent sees them, or as their server calls them."""
        self._tools: dict[str, Tool] = {}
        self._review = frozenset(review)

    def add(self, tools: Iterable[Tool]) -> None:
        """Offer these tools too."""
        for tool in tools:
            name = self._free(identifier(tool.name))
            bare = tool.name.removeprefix(f"{tool.source.removeprefix('mcp:')}_")  # server names may have a _
            reviewed = tool.review or bool(self._review & {tool.name, name, bare})
            self._tools[name] = replace(tool, name=name, review=reviewed)

    def get(self, name: str) -> Tool | None:
        """The tool of this name."""
        return self._tools.get(name)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def _free(self, name: str) -> str:
        free, number = name, 2
        while free in self._tools:
            suffix = f"_{number}"
            free, number = name[: _LONGEST_NAME - len(suffix)] + suffix, number + 1
        return free


def identifier(name: str) -> str:
    """`name` as providers accept tool names: letters, digits, underscore and hyphen, at most 64."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:_LONGEST_NAME] or "tool"
