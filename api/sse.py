"""Event streams: replay from the database, then live, without a gap or a repeat, however either side drops.

A numbered event is sent when its number is the next; any other number means that the live stream has missed
or repeated something, and the database is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus

from api import metrics
from api.state import State
from common.domain.lifecycle import TERMINAL
from common.store import events
from common.stream import Events, Item, Subscription, Tokens

#: A comment after so many seconds of silence keeps proxies from closing the stream.
KEEP_ALIVE: Final = 15
#: A reader that takes no bytes for so many seconds is dropped; it may resume.
SLOWEST: Final = 20.0
#: How often the database is read although nothing was heard, in seconds.
LOOK_EVERY: Final = 15.0
PAGE: Final = 500
# The process tells its streams itself when it stops (State.stop_waiting).
AppStatus.enable_automatic_graceful_drain = False

_ENDED: Final = frozenset(status.value for status in TERMINAL)


def response(frames: AsyncIterator[bytes]) -> EventSourceResponse:
    """The answer that sends these frames for as long as they come."""
    return EventSourceResponse(
        _counted(frames),
        headers={"Cache-Control": "no-cache, no-transform"},
        ping=KEEP_ALIVE,
        ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
        sep="\n",
        send_timeout=SLOWEST,
    )


async def _counted(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    metrics.STREAMS.inc()
    try:
        async for frame in frames:
            yield frame
    finally:
        metrics.STREAMS.dec()


def described(data: str, *names: str) -> dict[str, Any]:
    """The JSON Schema of one event of a stream, for documents: what `data` holds, and the names events may have."""
    properties: dict[str, Any] = {"data": {"type": "string", "description": data}}
    if names:
        properties["event"] = {"enum": list(names)}
    return {
        "type": "object",
        "description": "Each event of the stream.",
        "properties": properties,
        "required": ["data"],
    }


def frame(data: Any, *, id_: str | None = None, event: str | None = None) -> bytes:
    """One event of the stream. Without a name it is a `message` to an EventSource."""
    head = f"id: {id_}\n" if id_ is not None else ""
    if event is not None:
        head += f"event: {event}\n"
    return head.encode() + b"data: " + orjson.dumps(data) + b"\n\n"


@dataclass(frozen=True, slots=True)
class Following:
    """A task to follow: from after event number `after`, with or without token deltas."""

    org_id: str
    task_id: str
    after: int = 0
    tokens: bool = True
    permitted: Callable[[], Awaitable[bool]] | None = None  # asked now and then; False ends the stream


async def task_events(state: State, wanted: Following) -> AsyncIterator[dict[str, Any] | Tokens]:
    """A task's events in order, each once, and token deltas between them; ends with the task.

    The caller has checked that the task is that organisation's.
    """
    place = _Place(wanted.after)
    with state.follower.follow(wanted.org_id, wanted.task_id, tokens=wanted.tokens) as heard:
        while not state.stopping.is_set() and (wanted.permitted is None or await wanted.permitted()):
            found: list[dict[str, Any]] | None = None
            while found is None or len(found) == PAGE:
                found = await state.reader.call(_after, (wanted.task_id, place.seq))
                for event in place.take(found):
                    yield event
            look_at = asyncio.get_running_loop().time() + LOOK_EVERY
            while not place.ended and isinstance(item := await heard_before(heard, look_at), Events | Tokens):
                fresh = place.fresh(item)
                if fresh is None:
                    break
                for news in fresh:
                    yield news
            if place.ended:
                return


async def heard_before(heard: Subscription, look_at: float) -> Item | None:
    """The next thing heard; None once it is time to look around (on the loop's clock)."""
    left = look_at - asyncio.get_running_loop().time()
    return await heard.next(left) if left > 0 else None


class _Place:
    """How far a follower has come in a task's log."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.attempt = 0
        self.ended = False

    def take(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Go on behind these events, which follow the last one without a gap."""
        if events:
            self.seq = events[-1]["seq"]
            self.attempt = max(self.attempt, events[-1]["attempt"])
            self.ended = ends(events[-1])
        return events

    def fresh(self, item: Events | Tokens) -> Sequence[dict[str, Any] | Tokens] | None:
        """What of a live message is new; None when events before it were missed."""
        if isinstance(item, Tokens):
            return [item] if item.attempt >= self.attempt else []
        new = [event for event in item.events if event["seq"] > self.seq]
        if [event["seq"] for event in new] != list(range(self.seq + 1, self.seq + 1 + len(new))):
            return None
        return self.take(new)


def ends(event: dict[str, Any]) -> bool:
    """Whether this event is the last of its task."""
    return (event["data"] or {}).get("status") in _ENDED


def _after(conn: Connection, asked: Sequence[tuple[str, int]]) -> list[list[dict[str, Any]]]:
    return [events.after(conn, task_id, seq, PAGE) for task_id, seq in asked]
