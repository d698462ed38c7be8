"""How an outbound call fails, each way with a stable code.

    OutboundError
    ├── UrlRefused          url_refused           refused by the guard: a bad URL, port or address
    ├── HeaderRefused       header_refused        a header the caller may not set
    ├── DnsFailed           dns_failed
    ├── ConnectTimedOut     connect_timeout
    ├── ConnectFailed       connect_failed        connection refused, no route
    ├── TlsFailed           tls_failed            certificate or handshake
    ├── PoolTimedOut        pool_timeout          too many calls under way
    ├── WriteTimedOut       write_timeout
    ├── ReadTimedOut        read_timeout          silence
    ├── AttemptTimedOut     attempt_timeout       too long in all
    ├── ConnectionReset     connection_reset      closed before the answer was complete
    ├── ProtocolBroken      protocol_error        what came back is not HTTP
    └── ResponseTooLarge    response_too_large

Each is also the httpx2 exception of the same meaning: clients built on httpx2 (MCP's) handle it as their own.
"""

from __future__ import annotations

from typing import Any

import httpx2

from runyard_common.values.errors import InvalidRequest, RunyardError


class OutboundError(RunyardError, httpx2.TransportError):
    """The outbound call failed."""

    status = 502
    code = "outbound_failed"
    title = "Outbound call failed"


class UrlRefused(OutboundError, InvalidRequest):
    """This URL may not be called."""

    status = 400
    code = "url_refused"
    title = "URL refused"

    def __init__(self, message: str, *, reason: str, field: str = "url", address: str | None = None) -> None:
        """`reason` is stable; `address`, what the host resolved to, is for the log, not for the caller."""
        super().__init__(message, field=field, reason=reason)
        self.reason = reason
        self.address = address


class HeaderRefused(OutboundError, InvalidRequest):
    """This header may not be set."""

    status = 400
    code = "header_refused"
    title = "Header refused"

    def __init__(self, message: str, *, reason: str, field: str = "headers") -> None:
        super().__init__(message, field=field, reason=reason)
        self.reason = reason


class DnsFailed(OutboundError, httpx2.ConnectError):
    """The host name could not be resolved."""

    code = "dns_failed"


class ConnectTimedOut(OutboundError, httpx2.ConnectTimeout):
    """The receiver did not accept the connection in time."""

    code = "connect_timeout"


class ConnectFailed(OutboundError, httpx2.ConnectError):
    """The receiver could not be reached: it refused the connection or there is no route to it."""

    code = "connect_failed"


class TlsFailed(OutboundError, httpx2.ConnectError):
    """No trusted encrypted connection could be made."""

    code = "tls_failed"


class PoolTimedOut(OutboundError, httpx2.PoolTimeout):
    """Too many outbound calls are under way."""

    code = "pool_timeout"


class WriteTimedOut(OutboundError, httpx2.WriteTimeout):
    """The receiver did not take the request in time."""

    code = "write_timeout"


class ReadTimedOut(OutboundError, httpx2.ReadTimeout):
    """The receiver did not answer in time."""

    code = "read_timeout"


class AttemptTimedOut(OutboundError, httpx2.ReadTimeout):
    """The call took longer than it may in all."""

    code = "attempt_timeout"


class ConnectionReset(OutboundError, httpx2.ReadError):
    """The receiver closed the connection before its answer was complete."""

    code = "connection_reset"


class ProtocolBroken(OutboundError, httpx2.RemoteProtocolError):
    """What the receiver sent is not valid HTTP."""

    code = "protocol_error"


class ResponseTooLarge(OutboundError):
    """The answer is larger than may be read."""

    code = "response_too_large"

    def __init__(self, limit: int, message: str = "", **details: Any) -> None:
        message = message or f"The answer is larger than {limit} bytes, the most that is read here."
        super().__init__(message, limit=limit, **details)
