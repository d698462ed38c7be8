"""What the HTTP library's failures mean here: each becomes an `OutboundError` with a stable code."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore2

from runyard_common.outbound.errors import (
    ConnectFailed,
    ConnectionReset,
    ConnectTimedOut,
    HeaderRefused,
    OutboundError,
    PoolTimedOut,
    ProtocolBroken,
    ReadTimedOut,
    TlsFailed,
    WriteTimedOut,
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise the library's failures inside the block as `OutboundError`s."""
    try:
        yield
    except tuple(_MEANINGS) as error:
        raise meaning(error) from error


def meaning(error: Exception) -> OutboundError:
    """The named failure for one of the library's exceptions."""
    if isinstance(error, httpcore2.ConnectError):
        return _connect_failure(error)
    if isinstance(error, httpcore2.RemoteProtocolError) and "disconnected" in str(error):
        return ConnectionReset("The receiver closed the connection without an answer.")
    if isinstance(error, httpcore2.LocalProtocolError):
        return HeaderRefused(f"The request is not valid HTTP: {error}.", reason="malformed")
    return next((named() for kind, named in _MEANINGS.items() if isinstance(error, kind)), OutboundError())


def _connect_failure(error: httpcore2.ConnectError) -> OutboundError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TlsFailed(f"The certificate is not trusted: {cause.verify_message}.")
        if isinstance(cause, ssl.SSLError):
            return TlsFailed(f"The TLS handshake failed: {cause.reason or cause}.")
    if any(isinstance(cause, ConnectionResetError) for cause in causes):
        return ConnectionReset("The receiver closed the connection while it was being opened.")
    return ConnectFailed()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what lies beneath it; the library keeps originals as arguments of new exceptions."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        beneath = [current.__cause__, current.__context__, *current.args]
        waiting += [one for one in beneath if isinstance(one, BaseException)]


#: The most specific first.
_MEANINGS: dict[type[Exception], type[OutboundError]] = {
    httpcore2.ConnectTimeout: ConnectTimedOut,
    httpcore2.PoolTimeout: PoolTimedOut,
    httpcore2.WriteTimeout: WriteTimedOut,
    httpcore2.TimeoutException: ReadTimedOut,
    httpcore2.ConnectError: ConnectFailed,
    httpcore2.NetworkError: ConnectionReset,
    httpcore2.LocalProtocolError: HeaderRefused,
    httpcore2.ProtocolError: ProtocolBroken,
}
