"""Calls from pages of other origins (CORS): answered for the origins of RUNYARD_ALLOWED_ORIGINS, for no others.

Credentials are keys and tokens in headers. Cookies are never sent along from another origin: signing in is for the
console's own.
"""

from __future__ import annotations

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from runyard_common.values import addresses

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
    allowed_origins = addresses.parse_origins(allowed)
    if not allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=allowed_origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=_REMEMBERED_S,
    )
