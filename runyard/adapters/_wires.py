"""What a provider's answer holds of a turn: the model, tokens, text and why it ended. Pure.

A stream is put together to the answer that it would have been in one piece, as far as a turn needs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """What is known of one answer."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    text: str = ""
    thinking: str = ""
    finish_reason: str | None = None


def summary(path: str, body: bytes, is_stream: bool) -> Summary:
    """The summary of an answer to a request at this path; empty ones where it is of no known kind."""
    read = next((read for suffix, read in _READERS if suffix in path), None)
    if read is None:
        return Summary()
    try:
        events = list(_events(body)) if is_stream else [json.loads(body)]
        return read(events, is_stream) if all(isinstance(one, dict) for one in events) else Summary()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):  # an answer with ideas of its own
        return Summary()


def _events(body: bytes) -> Iterator[Any]:
    for line in body.splitlines():
        data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data and data != b"[DONE]":
            yield json.loads(data)


def is_usage_only(event: bytes) -> bool:
    """Whether an event of a chat stream carries the usage and no choice."""
    if b'"usage"' not in event:
        return False
    try:
        return any(one.get("usage") and not one.get("choices") for one in _events(event))
    except (ValueError, AttributeError):
        return False


def _chat(answers: list[Json], is_stream: bool) -> Summary:
    """OpenAI's chat completions, whole or as deltas; embeddings have no choices."""
    text, thinking, finish, model = "", "", None, ""
    usage: Json = {}
    for answer in answers:
        model = answer.get("model") or model
        usage = answer.get("usage") or usage
        for choice in answer.get("choices") or ():
            part = choice.get("delta" if is_stream else "message") or {}
            text += _text(part.get("content"))
            thinking += _text(part.get("reasoning_content") or part.get("reasoning"))
            finish = choice.get("finish_reason") or finish
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Summary(
        model,
        usage.get("prompt_tokens") or 0,
        usage.get("completion_tokens") or 0,
        cached,
        text,
        thinking,
        finish,
    )


def _responses(answers: list[Json], is_stream: bool) -> Summary:
    """OpenAI's responses; the last event of a stream has the whole."""
    whole = (
        next((one["response"] for one in reversed(answers) if "response" in one), {})
        if is_stream
        else answers[0]
    )
    usage = whole.get("usage") or {}
    text = thinking = ""
    for item in whole.get("output") or ():
        if item.get("type") == "message":
            text += "".join(_text(part.get("text")) for part in item.get("content") or ())
        elif item.get("type") == "reasoning":
            thinking += "".join(_text(part.get("text")) for part in item.get("summary") or ())
    reason = (whole.get("incomplete_details") or {}).get("reason")
    return Summary(
        whole.get("model") or "",
        usage.get("input_tokens") or 0,
        usage.get("output_tokens") or 0,
        (usage.get("input_tokens_details") or {}).get("cached_tokens") or 0,
        text,
        thinking,
        "length" if reason == "max_output_tokens" else reason or whole.get("status"),
    )


def _anthropic(answers: list[Json], is_stream: bool) -> Summary:
    """Anthropic's messages: a stream has its usage in its first and its last events."""
    usage: dict[str, Any] = {}
    text, thinking, finish, model = "", "", None, ""
    for one in answers:
        message = one.get("message") if is_stream else one
        message = message if isinstance(message, dict) else {}
        model = message.get("model") or model
        usage |= {
            k: v for k, v in ((message.get("usage") or one.get("usage")) or {}).items() if v is not None
        }
        delta = one.get("delta") or {}
        finish = delta.get("stop_reason") or message.get("stop_reason") or finish
        blocks = message.get("content") or [] if not is_stream else [one.get("content_block") or {}, delta]
        for block in blocks:
            text += _text(block.get("text"))
            thinking += _text(block.get("thinking"))
    cached = usage.get("cache_read_input_tokens") or 0
    fresh = (usage.get("input_tokens") or 0) + (usage.get("cache_creation_input_tokens") or 0)
    finish = "length" if finish == "max_tokens" else finish
    return Summary(model, fresh + cached, usage.get("output_tokens") or 0, cached, text, thinking, finish)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


_READERS: Final[tuple[tuple[str, Callable[[list[Json], bool], Summary]], ...]] = (
    ("/chat/completions", _chat),
    ("/embeddings", _chat),
    ("/completions", _chat),
    ("/responses", _responses),
    ("/messages", _anthropic),
)
