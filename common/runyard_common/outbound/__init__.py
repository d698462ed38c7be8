"""Guarded calls to addresses a caller chose: callbacks, webhooks, MCP servers, file URLs."""

from runyard_common.outbound.client import Answer, GuardedClient, Timeouts
from runyard_common.outbound.errors import OutboundError, UrlRefused
from runyard_common.outbound.headers import check_headers
from runyard_common.outbound.policy import OutboundPolicy
from runyard_common.outbound.resolver import Resolver, SystemResolver
from runyard_common.outbound.transport import GuardedTransport, guarded_transport
from runyard_common.outbound.urls import check_url

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
