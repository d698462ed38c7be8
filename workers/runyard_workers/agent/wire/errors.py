"""Errors that services send with status 200: the status they mean, and their message."""

from __future__ import annotations

from typing import Any, Final

from runyard_workers.agent.wire.text import clean

BAD_GATEWAY: Final = 502
#: Error types and codes of OpenAI, Anthropic and Google, with the statuses that they come with.
_STATUSES: Final = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "insufficient_quota": 429,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found": 404,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "overloaded_error": 503,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
}
_LONGEST: Final = 2000


def status_of(error: Any) -> int:
    """The status that an error in an answer means: its own, that of its type, or 502."""
    if isinstance(error, dict):
        for name in ("code", "status", "type"):
            value = error.get(name)
            text = str(value).strip().lower()
            if text.isascii() and text.isdigit() and 400 <= int(text[:4]) <= 599:
                return int(text[:4])
            if text in _STATUSES:
                return _STATUSES[text]
    return BAD_GATEWAY


def words_of(value: Any) -> str:
    """The message in the body of an error; empty where there is none."""
    if isinstance(value, str):
        return clean(value)[:_LONGEST].strip()
    if isinstance(value, list):
        return "; ".join(filter(None, (words_of(one) for one in value[:5])))[:_LONGEST]
    if isinstance(value, dict):
        for name in ("error", "message", "msg", "detail", "error_message", "errors", "title"):
            if words := words_of(value.get(name)):
                return words
    return ""
