"""A run's tools by name: names every provider accepts, unique, with the review flags applied."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from runyard_workers.agent.tools.base import Tool

_LONGEST_NAME = 64


class Toolbox:
    """Tools in the order they were added; a name that is taken gets a number."""

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
        taken, number = name, 2
        while taken in self._tools:
            suffix = f"_{number}"
            taken, number = name[: _LONGEST_NAME - len(suffix)] + suffix, number + 1
        return taken


def identifier(name: str) -> str:
    """`name` as providers accept tool names: letters, digits, underscore and hyphen, at most 64."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:_LONGEST_NAME] or "tool"
