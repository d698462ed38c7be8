"""Why an MCP server could not be used: a code, a sentence, and whether another try may help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from runyard_common.outbound.errors import (
    ConnectFailed,
    ConnectionReset,
    ConnectTimedOut,
    DnsFailed,
    OutboundError,
    PoolTimedOut,
    ProtocolBroken,
    UrlRefused,
)
from runyard_common.values.errors import RunyardError
from runyard_workers.agent.wire.mcp import HttpFailure
from runyard_workers.agent.wire.text import clean

_LONGEST: Final = 300
_ADVICE: Final = {
    HTTPStatus.UNAUTHORIZED: ("unauthorized", "check the credentials in `auth`"),
    HTTPStatus.FORBIDDEN: ("forbidden", "its credentials do not allow this"),
    HTTPStatus.NOT_FOUND: ("not_found", "check the path in `serverUrl`"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("not_found", "check the path in `serverUrl`"),
    HTTPStatus.TOO_MANY_REQUESTS: ("rate_limited", "it is busy"),
}
#: Failures before the server had the request: nothing can have happened.
_UNSENT: Final = (ConnectFailed, ConnectTimedOut, DnsFailed, PoolTimedOut)
#: JSON-RPC error codes of the client's own: the connection ended, or the answer took too long.
_CLOSED: Final = -32000
_TIMED_OUT: Final = -32001


@dataclass(frozen=True, slots=True)
class Trouble:
    """`again`: another try may help. `unsent`: the server did nothing yet. `forgotten`: it lost the session."""

    code: str
    message: str
    status: int | None = None
    again: bool = False
    unsent: bool = False
    forgotten: bool = False
    retry_after: float | None = None


def judge(error: BaseException, noted: HttpFailure | None) -> Trouble:
    """What went wrong: `noted` is how the last request failed, if it did; `error` what the library made of it."""
    if noted is not None and noted.status is not None:
        return _by_status(noted, noted.status)
    for cause in [noted.error] if noted is not None and noted.error is not None else _causes(error):
        if isinstance(cause, OutboundError):
            return _unreached(cause)
        if isinstance(cause, RunyardError):
            return Trouble("failed", cause.message[:_LONGEST])
        code = getattr(getattr(cause, "error", None), "code", None)
        if code == _CLOSED:
            return Trouble(
                "connection_lost", "it closed the connection before its answer was complete", again=True
            )
        if code == _TIMED_OUT or isinstance(cause, TimeoutError):
            return Trouble("timeout", "it did not answer in time", again=True)
    return Trouble("failed", (_text(error) or type(error).__name__)[:_LONGEST])


def _by_status(noted: HttpFailure, status: int) -> Trouble:
    if noted.page:
        return Trouble("not_mcp", f"its answer with status {status} is not MCP; check `serverUrl`", status)
    if noted.in_session and (status == 404 or (status == 400 and "session" in noted.words.lower())):
        return Trouble(
            "session_lost", "it no longer knows the session", status, again=True, unsent=True, forgotten=True
        )
    code, advice = _ADVICE.get(HTTPStatus(status), ("", "")) if status in _STATUSES else ("", "")
    again = status >= 500 or status in (408, 425, 429)
    code = code or ("unavailable" if again else "refused")
    phrase = f" {HTTPStatus(status).phrase}" if status in _STATUSES else ""
    words = advice or clean(noted.words)
    wait = noted.retry_after
    asks = f"; it asks for a wait of {wait:g} s" if wait is not None and again else ""
    message = f"it answered {status}{phrase}" + (f": {words}" if words else "") + asks
    return Trouble(code, message[:_LONGEST], status, again=again, unsent=status == 429, retry_after=wait)


def _unreached(error: OutboundError) -> Trouble:
    unsent = isinstance(error, _UNSENT)
    again = unsent or isinstance(error, ConnectionReset | ProtocolBroken)
    timed_out = "timeout" in error.code
    code = "timeout" if timed_out else "refused" if isinstance(error, UrlRefused) else error.code
    message = "it did not answer in time" if timed_out and not unsent else error.message
    return Trouble(code, message[:_LONGEST], again=again, unsent=unsent)


def _causes(error: BaseException) -> Iterator[BaseException]:
    causes = [error]
    for cause in causes:
        yield cause
        beneath = [cause.__cause__, cause.__context__, *getattr(cause, "exceptions", ())]
        causes += [one for one in beneath if one is not None and one not in causes]


def _text(error: BaseException) -> str:
    return clean(str(error))


_STATUSES: Final = frozenset(int(status) for status in HTTPStatus)
