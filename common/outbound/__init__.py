"""Guarded calls to addresses a caller chose: callbacks, webhooks, MCP servers, file URLs."""

from common.outbound.client import Answer, GuardedClient, Timeouts
from common.outbound.errors import OutboundError, UrlRefused
from common.outbound.headers import check_headers
from common.outbound.policy import OutboundPolicy
from common.outbound.resolver import Resolver, SystemResolver
from common.outbound.transport import GuardedTransport, guarded_transport
from common.outbound.urls import check_url

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
