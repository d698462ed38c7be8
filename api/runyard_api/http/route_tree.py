"""Which route a path has, without a look at each of the several hundred: by its first segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

_ROOT: Final = "/"
#: A route, and what it adds to the scope.
Found = tuple[BaseRoute, Scope]


@dataclass(slots=True)
class _Node:
    """The routes that begin like this, and those that begin with a part of it, in the order of their list."""

    routes: list[tuple[int, BaseRoute]] = field(default_factory=list)
    below: dict[str, _Node] = field(default_factory=dict)


class RouteTree:
    """Finds what Starlette's router would find in the same list: the first route that matches in full."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._root = _Node()
        for place, route in enumerate(routes):
            node = self._root
            for segment in _literal(route):
                node = node.below.setdefault(segment, _Node())
            node.routes.append((place, route))
        _inherit(self._root, [])

    def find(self, scope: Scope) -> Found | None:
        """The route of a request; None where none matches in full."""
        node = self._root
        for segment in scope["path"].split("/")[1:]:
            below = node.below.get(segment)
            if below is None:
                break
            node = below
        for _, route in node.routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return route, child
        return None


def _literal(route: BaseRoute) -> list[str]:
    """The segments of a route's path before the first with a placeholder; none of what is no route by path."""
    path = route.path if isinstance(route, Route) else _ROOT
    literal: list[str] = []
    for segment in path.split("/")[1:]:
        if "{" in segment:
            break
        literal.append(segment)
    return literal if path != _ROOT else []


def _inherit(node: _Node, above: list[tuple[int, BaseRoute]]) -> None:
    node.routes = sorted([*above, *node.routes], key=lambda placed: placed[0])
    for below in node.below.values():
        _inherit(below, node.routes)
