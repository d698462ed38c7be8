"""Scripted answers of a model, for every protocol."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One scripted answer. Times are seconds; `cut_after` ends a stream after so many pieces."""

    text: str | None = None
    tool_calls: tuple[tuple[str, str, str], ...] = ()  # id, name, arguments as JSON text
    reasoning: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    status: int = 200
    retry_after: str | None = None
    delay: float = 0.0
    piece_delay: float = 0.0
    cut_after: int | None = None
    cut_quietly: bool = False
    usage: dict[str, Any] | None = None
    hold: threading.Event | None = None  # answers only once this is set
    kind: str | None = None  # the error's type, where the protocol has one beside the status
    breaks: bool = False  # a stream ends with the protocol's error event
    raw: bytes | None = None  # the whole body as it is sent, of the type `media_type`
    media_type: str = "application/json"
    change: Callable[[dict[str, Any]], Any] | None = None  # changes the answer's JSON, or each of its events
    words: str | None = None  # an error's message


def reply(text: str, **options: Any) -> Reply:
    """A plain answer."""
    return Reply(text=text, **options)


def calls(*made: tuple[str, dict[str, Any]], text: str | None = None, **named: dict[str, Any]) -> Reply:
    """Tool calls, in parallel: `calls(lookup={"a": 1})`, or pairs where one tool is called twice."""
    pairs = [*made, *named.items()]
    return Reply(
        text=text,
        tool_calls=tuple((f"call_{uuid.uuid4().hex[:12]}", name, json.dumps(args)) for name, args in pairs),
    )


def fail(status: int, retry_after: float | None = None, code: str | None = None) -> Reply:
    """An error answer. `retry_after` is seconds, `code` the error's type or code in its body."""
    return Reply(status=status, retry_after=None if retry_after is None else f"{retry_after:g}", kind=code)


def raw(body: str | bytes, media_type: str = "application/json", status: int = 200) -> Reply:
    """An answer with this body."""
    return Reply(raw=body.encode() if isinstance(body, str) else body, media_type=media_type, status=status)


def odd(reply: Reply, change: Callable[[dict[str, Any]], Any]) -> Reply:
    """An answer whose JSON was changed: `change` gets it, or each event of a stream, and returns what is sent."""
    return replace(reply, change=change)


def pieces(text: str) -> list[str]:
    """A text as a stream sends it: word by word."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", text)


async def paced(reply: Reply, events: Iterable[str]) -> AsyncIterator[str]:
    """The events of a stream, at the reply's pace, cut where it has it."""
    for number, event in enumerate(events):
        if reply.cut_after is not None and number >= reply.cut_after:
            if reply.cut_quietly:
                return
            raise ConnectionResetError("scripted cut")
        if reply.piece_delay:
            await asyncio.sleep(reply.piece_delay)
        yield event
