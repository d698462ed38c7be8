"""Google's generateContent answers as servers send them, in the shape that Google documents.

Source: Gemini API reference, v1beta, "GenerateContentResponse".
"""

from __future__ import annotations

from typing import Any, Final

from runyard_workers.agent.wire import counts
from runyard_workers.agent.wire.text import parse

_COUNTS: Final = ("promptTokenCount", "candidatesTokenCount")
_REASONS: Final = frozenset(
    {
        "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT",
        "SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL",
    }
)  # fmt: skip


def has_answer(value: dict[str, Any]) -> bool:
    """Whether there is an answer in it, possibly an empty or a blocked one."""
    candidates = value.get("candidates")
    found = isinstance(candidates, list) and any(isinstance(one, dict) for one in candidates)
    return found or isinstance(value.get("promptFeedback"), dict)


def whole(value: dict[str, Any]) -> dict[str, Any]:
    """An answer, or a piece of a streamed one."""
    kept = {name: one for name, one in value.items() if name not in ("candidates", "usageMetadata", "error")}
    candidates = value.get("candidates")
    found = (
        [_candidate(one) for one in candidates if isinstance(one, dict)]
        if isinstance(candidates, list)
        else []
    )
    used = counts.usage(value.get("usageMetadata"), _COUNTS)
    return kept | ({"candidates": found} if found else {}) | ({} if used is None else {"usageMetadata": used})


def _candidate(one: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in one.items() if name not in ("content", "finishReason")}
    content, reason = one.get("content"), one.get("finishReason")
    parts = content.get("parts") if isinstance(content, dict) else None
    found = [
        part for given in (parts if isinstance(parts, list) else ()) if (part := _part(given)) is not None
    ]
    candidate = kept | {"content": {"role": "model", "parts": found}}
    if isinstance(reason, str) and reason:
        candidate["finishReason"] = reason if reason in _REASONS else "OTHER"
    return candidate


def _part(given: Any) -> dict[str, Any] | None:
    if not isinstance(given, dict):
        return None
    part = {name: value for name, value in given.items() if value is not None}
    if "text" in part and not isinstance(part["text"], str):
        part["text"] = str(part["text"])
    call = part.get("functionCall")
    if isinstance(call, dict):
        name = call.get("name")
        part["functionCall"] = {k: v for k, v in call.items() if v is not None} | {
            "name": name if isinstance(name, str) and name else "unnamed",
            "args": _arguments(call.get("args")),
        }
    return part or None


def _arguments(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            given = parse(given.encode()) if given.strip() else {}
        except ValueError:
            return {"input": given}
    return given if isinstance(given, dict) else {} if given is None else {"input": given}
