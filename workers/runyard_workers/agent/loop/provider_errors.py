"""What a provider's failure means for the run: tried again under the provider budget, or final.

Keys in what providers write, whole, in part, or starred out, are masked before a log has them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import structlog
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
    UnexpectedModelBehavior,
)

from runyard.errors import AgentError, ProviderError
from runyard_workers.agent.failures import ModelRefused
from runyard_workers.agent.wire.errors import words_of
from runyard_workers.agent.wire.text import clean

logger = structlog.get_logger("runyard.models")

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
_LONGEST: Final = 500
_LONGEST_LOGGED: Final = 2000
#: The longest time that a run waits because a provider asks for it, in seconds.
LONGEST_WAIT: Final = 3600.0
_FIRST_TIMESTAMP: Final = 1e9  # as a number of seconds, 32 years; as a time, the year 2001
#: The library's messages where an answer is none. Its checks have no class of their own.
_NO_ANSWER: Final = (
    "Invalid response from",
    "ended without content",
    "Unexpected response",
    "Expected a JSON response",
)

MASK: Final = "[key]"
_TOKEN: Final = re.compile(r"[\w*.…-]{6,}")
_KEYLIKE: Final = re.compile(
    r"(?:sk|pk|rk|ak|key|gsk|xai|hf|r8|AIza|AQ|ya29|eyJ)[-_.]?[\w.-]{8,}\Z", re.IGNORECASE
)
_GAP: Final = re.compile(r"\*+|…|\.{3,}")
_SHORTEST_PART: Final = 3
_SHORTEST_FRAGMENT: Final = 6
_known: set[str] = set()


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


def no_answer() -> ModelRefused:
    """The model was asked again, as often as it may be, and never answered."""
    return ModelRefused("The model gave no answer.", code="model_no_answer")


def truncated(max_tokens: int | None) -> ModelRefused:
    """The limit of tokens cut the answer off before it could be used."""
    if max_tokens is None:
        message = "The model's answer was cut off at the model's own limit of tokens; ask for less, or set max_tokens."
    else:
        message = f"The model's answer was cut off at max_tokens ({max_tokens}); raise max_tokens."
    return ModelRefused(message, code="model_output_truncated")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, FallbackExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _single(error: BaseException) -> AgentError | None:
    kind = next(((code, again) for cls, code, again in _KINDS if isinstance(error, cls)), None)
    if kind is None and isinstance(error, UnexpectedModelBehavior) and str(error).startswith(_NO_ANSWER):
        kind = ("model_answer_invalid", True)
    if kind is None and not isinstance(error, ModelAPIError):
        return None
    code, again = kind or _by_status(error)
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    _log(error, code, status)
    message = _message(error, code, status)
    details: dict[str, Any] = {"status": status} if status else {}
    wait = _wait(getattr(error, "retry_after", None))
    if again and wait is not None and wait > LONGEST_WAIT:
        message += f" It asks for a wait of {_span(wait)}; a run waits for {_span(LONGEST_WAIT)} at most."
        return ModelRefused(message, code=code, retry_after=round(wait), **details)
    if again:
        return ProviderError(message, code=code, retry_after=wait, **details)
    return ModelRefused(message, code=code, **details)


def _by_status(error: BaseException) -> tuple[str, bool]:
    status = error.status_code if isinstance(error, ModelHTTPError) else 500
    return (
        ("model_server_error", True) if status >= 500 or status == 408 else ("model_request_rejected", False)
    )


def _message(error: BaseException, code: str, status: int | None) -> str:
    """A sentence for the run's readers. What a provider writes about keys is for operators only, see `_log`."""
    model = getattr(error, "model_name", None)
    of = f" for {model}" if model else ""
    if code == "model_key_refused" or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return (
            f"The model provider refused the server's key{of} (status {status or 'unknown'}). "
            "Check the key of the provider in the server's settings."
        )
    words = mask(_words(error))[:_LONGEST]
    if status is not None:
        return f"The model provider answered {status}{of}: {words or _phrase(status)}"
    return f"The model call failed{of}: {words or type(error).__name__}"


def _words(error: BaseException) -> str:
    if isinstance(error, ModelHTTPError):
        return words_of(error.body)
    if isinstance(
        error, UnexpectedModelBehavior
    ):  # its text goes on with the library's findings, line by line
        return clean(error.message).partition("\n")[0]
    return clean(getattr(error, "message", None) or str(error))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _log(error: BaseException, code: str, status: int | None) -> None:
    logger.warning(
        "A model call failed",
        action="model_failed",
        code=code,
        status=status,
        model=getattr(error, "model_name", None),
        error=mask(clean(str(error)))[:_LONGEST_LOGGED],
    )


def _wait(seconds: Any) -> float | None:
    """The wait a provider asks for. Servers that send the time of the next try send it in seconds or in
    milliseconds since 1970."""
    if not isinstance(seconds, int | float):
        return None
    if seconds >= _FIRST_TIMESTAMP * 1000:
        seconds = seconds / 1000
    return float(seconds) if seconds < _FIRST_TIMESTAMP else max(0.0, seconds - time.time())


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (size == 3600 and seconds >= size):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def remember_key(key: str) -> None:
    """Mask this key from now on, and the parts of it that are quoted."""
    if len(key) >= _SHORTEST_FRAGMENT:
        _known.add(key)


def mask(text: str) -> str:
    """The text with `MASK` in place of every key."""
    for key in _known:
        text = text.replace(key, MASK)
    return _TOKEN.sub(lambda found: MASK if _is_key(found[0]) else found[0], text)


def _is_key(token: str) -> bool:
    bare = token.strip(".")
    if "***" in bare or _KEYLIKE.match(bare):
        return True
    parts = [part for part in _GAP.split(bare) if len(part) >= _SHORTEST_PART]
    if len(parts) == 1 and parts[0] == bare:
        return len(bare) >= _SHORTEST_FRAGMENT and any(bare in key for key in _known)
    return bool(parts) and any(all(part in key for part in parts) for key in _known)
