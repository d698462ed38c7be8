"""Calls from pages of other origins (CORS): answered for the origins of RUNYARD_ALLOWED_ORIGINS, for no others.

Credentials are keys and tokens in headers. Cookies are never sent along from another origin: signing in is for the
console's own.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from common.domain.errors import ConfigurationError

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
#: What pages may read of an answer, besides what browsers show anyway.
_EXPOSED: Final = (
    "ETag", "Location", "Request-Id", "Retry-After", "X-Session-ID", "X-Task-ID", "Idempotent-Replayed",
    "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Limit", "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)  # fmt: skip
_REMEMBERED_S: Final = 600


def answering(app: ASGIApp, allowed: str) -> ASGIApp:
    """`app`, which also answers preflights of these comma-separated origins. Raises `ConfigurationError`."""
    origins = [origin.strip().rstrip("/") for origin in allowed.split(",") if origin.strip()]
    if not origins:
        return app
    for origin in origins:
        _check(origin)
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=_REMEMBERED_S,
    )


def _check(origin: str) -> None:
    parts = urlsplit(origin)
    whole = (
        parts.scheme in ("http", "https")
        and parts.netloc
        and not (parts.path or parts.query or parts.fragment)
    )
    if origin != "*" and not whole:
        raise ConfigurationError(
            f"RUNYARD_ALLOWED_ORIGINS: {origin!r} is no origin; write https://host, or http://host:port."
        )
