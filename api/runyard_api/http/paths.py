"""Paths: of requests, as the routes have them; of links to this server, as callers see them."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final
from urllib.parse import unquote

from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from runyard_api.http.route_tree import Found, RouteTree

#: Replaces %2F of a request's path, which is part of a name and no separator; no path holds it otherwise.
SLASH: Final = "\udc2f"
#: Of the request under way.
PREFIX: ContextVar[str] = ContextVar("path_prefix", default="")


def under(path: str) -> str:
    """A path of this server as callers see it."""
    return PREFIX.get() + path


class Paths:
    """Resolves the paths of requests: without a proxy's prefix or a slash at the end, with %2F as part of a name.

    `prefix` is the path of RUNYARD_PUBLIC_URL. Proxies take it off, or leave it on.
    """

    def __init__(self, routes: Sequence[BaseRoute], prefix: str) -> None:
        self.prefix = prefix
        self._routes = RouteTree(routes)
        own = {route.path.split("/")[1] for route in routes if isinstance(route, Route)}
        first = prefix.split("/")[1] if prefix else ""
        self._left_on = prefix if first not in own else ""  # a prefix like ours must have been taken off

    def route(self, scope: Scope) -> tuple[Scope, Found | None]:
        """The scope with the path that the routes are asked for, and the route that has it. The server's own scope
        stays as it is."""
        if self._left_on and scope["path"].startswith(f"{self._left_on}/"):
            scope = dict(scope)
            scope["path"] = scope["path"].removeprefix(self._left_on)
            scope["raw_path"] = scope["raw_path"].removeprefix(self._left_on.encode())
        raw_path = scope["raw_path"]
        if b"%" in raw_path and b"%2F" in raw_path.upper():
            segments = raw_path.decode("ascii", "replace").split("/")
            literal = {**scope, "path": "/".join(map(_literal, segments))}
            if found := self._routes.find(literal):
                return literal, found
        found = self._routes.find(scope)
        if found is None and scope["path"].endswith("/") and (path := scope["path"].rstrip("/")):
            bare = {**scope, "path": path}
            if found := self._routes.find(bare):
                return bare, found
        return scope, found


def _literal(segment: str) -> str:
    """A segment of a path, whose escaped slash is part of a name."""
    return unquote(segment).replace("/", SLASH) if "%" in segment else segment
