"""Paths: the prefix of RUNYARD_PUBLIC_URL: a proxy takes it off each request, links to this server carry it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

#: Replaces %2F of a request's path, which is part of a name and no separator; no path holds it otherwise.
SLASH: Final = "\udc2f"
#: Of the request under way.
PREFIX: ContextVar[str] = ContextVar("path_prefix", default="")


def under(path: str) -> str:
    """A path of this server as callers see it."""
    return PREFIX.get() + path
