"""What a provider's failure means for the run: tried again under the provider budget, or final."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_ai.exceptions import (
    ContentFilterError,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
)

from runyard.errors import AgentError, ProviderError
from workers.agent.failures import ModelRefused

#: In order: the first class an error belongs to gives its code. True = another try may help.
_KINDS: tuple[tuple[type[Exception], str, bool], ...] = (
    (ModelRateLimitError, "model_rate_limited", True),
    (ModelQuotaExceededError, "model_quota_exceeded", False),
    (ModelUnavailableError, "model_unavailable", True),
    (ModelServerError, "model_server_error", True),
    (ModelTimeoutError, "model_timeout", True),
    (ModelRequestTimeout, "model_timeout", True),
    (ModelConnectionError, "model_connection_failed", True),
    (ModelContextWindowExceededError, "model_context_exceeded", False),
    (ModelAuthenticationError, "model_key_refused", False),
    (ModelNotFoundError, "model_not_found", False),
    (ModelRequestRejectedError, "model_request_rejected", False),
    (ContentFilterError, "model_content_filtered", False),
)
_LONGEST = 500


def translate(error: BaseException) -> AgentError | None:
    """The run's failure for a provider's; None for what is not a provider's failure."""
    failures = [one for one in (_single(leaf) for leaf in _leaves(error)) if one is not None]
    if not failures:
        return None
    # Of a chain of fallbacks, one that may recover is enough; the soonest decides when.
    passing = [one for one in failures if isinstance(one, ProviderError)]
    if not passing:
        return failures[-1]
    known = [one.retry_after for one in passing if one.retry_after is not None]
    passing[-1].retry_after = min(known, default=None)
    return passing[-1]


def cut_off(model: str) -> ProviderError:
    """A stream that ended without saying why was cut: what came is not a whole answer."""
    return ProviderError(f"The answer of {model} was cut off.", code="model_stream_cut")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, FallbackExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _single(error: BaseException) -> AgentError | None:
    kind = next(((code, again) for cls, code, again in _KINDS if isinstance(error, cls)), None)
    if kind is None and not isinstance(error, ModelAPIError):
        return None
    code, again = kind or _by_status(error)
    message = str(error)[:_LONGEST]
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    details: dict[str, Any] = {"status": status} if status else {}
    if again:
        return ProviderError(message, code=code, retry_after=getattr(error, "retry_after", None), **details)
    return ModelRefused(message, code=code, **details)


def _by_status(error: BaseException) -> tuple[str, bool]:
    status = error.status_code if isinstance(error, ModelHTTPError) else 500
    return (
        ("model_server_error", True) if status >= 500 or status == 408 else ("model_request_rejected", False)
    )
