"""Guarded calls to addresses a caller chose: callbacks, webhooks, MCP servers, file URLs.

Each name is imported when it is asked for: a process that only checks its settings loads no HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runyard_common.outbound.client import Answer, GuardedClient, Timeouts
    from runyard_common.outbound.errors import OutboundError, UrlRefused
    from runyard_common.outbound.headers import check_headers
    from runyard_common.outbound.policy import OutboundPolicy
    from runyard_common.outbound.resolver import Resolver, SystemResolver
    from runyard_common.outbound.transport import GuardedTransport, guarded_transport
    from runyard_common.outbound.urls import check_url

_LAZY = {
    "Answer": "client",
    "GuardedClient": "client",
    "Timeouts": "client",
    "OutboundError": "errors",
    "UrlRefused": "errors",
    "check_headers": "headers",
    "OutboundPolicy": "policy",
    "Resolver": "resolver",
    "SystemResolver": "resolver",
    "GuardedTransport": "transport",
    "guarded_transport": "transport",
    "check_url": "urls",
}

__all__ = [
    "Answer",
    "GuardedClient",
    "GuardedTransport",
    "OutboundError",
    "OutboundPolicy",
    "Resolver",
    "SystemResolver",
    "Timeouts",
    "UrlRefused",
    "check_headers",
    "check_url",
    "guarded_transport",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
