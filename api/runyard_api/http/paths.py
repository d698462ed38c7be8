"""Paths: of requests, as the routes have them; of links to this server, as callers see them."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final
from urllib.parse import unquote

from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from runyard_api.http.route_tree import RouteTree

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
        self.routes = RouteTree(routes)
        own = {route.path.split("/")[1] for route in routes if isinstance(route, Route)}
        first = prefix.split("/")[1] if prefix else ""
        self._left_on = prefix if first not in own else ""  # a prefix like ours must have been taken off

    def resolved(self, scope: Scope) -> Scope:
        """The scope with the path that the routes are asked for. The server's own scope stays as it is."""
        if self._left_on and scope["path"].startswith(f"{self._left_on}/"):
            scope = dict(scope)
            scope["path"] = scope["path"].removeprefix(self._left_on)
            scope["raw_path"] = scope["raw_path"].removeprefix(self._left_on.encode())
        raw_path = scope["raw_path"]
        if b"%" in raw_path and b"%2F" in raw_path.upper():
            segments = raw_path.decode("ascii", "replace").split("/")
            literal = "/".join(unquote(segment).replace("/", SLASH) for segment in segments)
            if self._is_route(scope, literal):
                return {**scope, "path": literal}
        if scope["path"].endswith("/") and not self._is_route(scope, scope["path"]):
            bare = scope["path"].rstrip("/")
            if bare and self._is_route(scope, bare):
                return {**scope, "path": bare}
        return scope

    def _is_route(self, scope: Scope, path: str) -> bool:
        asked = {**scope, "path": path}
        return self.routes.find(asked) is not None
