"""What the failure of a provider means that a client of any library met: as `provider_errors`, which knows our own.

Clients have classes of their own; what they share is a status, headers and a body, or the names of their bases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
)

from runyard.errors import AgentError
from runyard_workers.agent.loop.provider_errors import translate, truncated
from runyard_workers.agent_code.exceptions import Described

_DEEPEST: Final = 6
_CUT: Final = re.compile(r"finish_reason='length'|max_output_tokens")
_CODES: Final[dict[str, type[Any]]] = {
    "insufficient_quota": ModelQuotaExceededError,
    "billing_error": ModelQuotaExceededError,
    "context_length_exceeded": ModelContextWindowExceededError,
}
_STATUSES: Final[dict[int, type[Any]]] = {
    400: ModelRequestRejectedError,
    401: ModelAuthenticationError,
    402: ModelQuotaExceededError,
    403: ModelAuthenticationError,
    404: ModelNotFoundError,
    422: ModelRequestRejectedError,
    429: ModelRateLimitError,
    503: ModelUnavailableError,
    529: ModelUnavailableError,
}
#: Names of classes that HTTP clients and providers' libraries give these failures, or their bases.
_TIMEOUTS: Final = frozenset(
    {"APITimeoutError", "TimeoutException", "Timeout", "ServerTimeoutError", "ModelTimeoutError"}
)
_CONNECTIONS: Final = frozenset({"APIConnectionError", "TransportError", "ClientConnectionError"})
#: Names of classes that providers' libraries give an error event of a stream, whose status was 200; and the status that
#: its code or type has elsewhere.
_STREAMED: Final = frozenset({"APIError", "APIStatusError"})
_IN_STREAMS: Final = {"rate_limit_exceeded": 429, "rate_limit_error": 429, "overloaded_error": 529}
#: Timeouts and connections of errors that were described in another process, where only the class itself is known.
_DESCRIBED_TIMEOUTS: Final = _TIMEOUTS | {
    "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "TimeoutError",
}  # fmt: skip
_DESCRIBED_CONNECTIONS: Final = _CONNECTIONS | {
    "ConnectError", "ReadError", "WriteError", "RemoteProtocolError", "ClientConnectorError", "ConnectionError",
    "ConnectionResetError", "ConnectionRefusedError", "BrokenPipeError", "ModelConnectionError",
}  # fmt: skip


def translate_any(error: BaseException) -> AgentError | None:
    """The run's failure for a provider's; None for what is not a provider's failure."""
    for one in _chain(error):
        known = one if isinstance(one, ModelAPIError) else _known(one) or _unusable(one)
        if known is not None and isinstance(known, UnexpectedModelBehavior) and _CUT.search(str(known)):
            return truncated(None)
        failure = translate(known or one)
        if failure is not None:
            return failure
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_DEEPEST):
        if one is None:
            return
        yield one
        one = one.__cause__


def _known(error: BaseException) -> ModelAPIError | None:
    status = _of(error, "status_code")
    if isinstance(status, int) and 400 <= status < 600:
        return _by_status(error, status)
    timeouts, connections = _TIMEOUTS, _CONNECTIONS
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, Described):
        timeouts, connections = _DESCRIBED_TIMEOUTS, _DESCRIBED_CONNECTIONS
        names = {str(error.described["name"]).rpartition(".")[2]}
    if names & timeouts or isinstance(error, TimeoutError):
        return ModelTimeoutError(_model(error), f"The model did not answer in time: {error}")
    if names & connections or isinstance(error, ConnectionError):
        return ModelConnectionError(_model(error), str(error))
    if names & _STREAMED:
        codes = _codes(_of(error, "body"))
        return _by_status(error, next((_IN_STREAMS[code] for code in codes if code in _IN_STREAMS), 500))
    return None


def _unusable(error: BaseException) -> Exception | None:
    """An answer that was none, as the OpenAI Agents SDK reports it of a model."""
    if "ModelBehaviorError" not in {kind.__name__ for kind in type(error).__mro__}:
        return None
    text = str(error)
    if "content_filter" in text:
        return ContentFilterError(text)
    return UnexpectedModelBehavior(f"Invalid response from the model: {text}")


def _of(error: BaseException, name: str) -> Any:
    """An attribute; of an error in another process, if it was described."""
    if isinstance(error, Described):
        return (error.described.get("state") or {}).get(name)
    return getattr(error, name, None)


def _by_status(error: BaseException, status: int) -> ModelHTTPError:
    headers = _of(error, "headers") or getattr(_of(error, "response"), "headers", None)
    body = _of(error, "body") or str(error)
    kind = next((_CODES[code] for code in _codes(body) if code in _CODES), None) or _STATUSES.get(status)
    if kind is None and status >= 500:
        kind = ModelServerError
    return ModelHTTPError.for_category(
        kind,
        status_code=status,
        model_name=_model(error),
        body=body,
        headers=dict(headers) if isinstance(headers, Mapping) else None,
    )


def _codes(body: Any) -> list[str]:
    inner = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(inner, dict):
        return []
    return [inner[key] for key in ("code", "type") if isinstance(inner.get(key), str)]


def _model(error: BaseException) -> str:
    return str(_of(error, "model_name") or "")
