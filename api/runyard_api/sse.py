"""Event streams: replay from the database, then live, without a gap or a repeat, however either side drops.

A numbered event is sent when its number is the next; any other number means that the live stream has missed
or repeated something, and the database is read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import orjson
from sqlalchemy import Connection

from runyard_api.http.event_stream import EventStream
from runyard_api.state import State
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import events, feed, tasks
from runyard_common.runs.queries.tasks import Place
from runyard_common.runs.rules.lifecycle import TERMINAL
from runyard_common.runs.rules.tasks import OwnTask
from runyard_common.stream import Events, Item, Subscription, Tokens
from runyard_common.values.errors import ConfigurationChanged, NotFound
from runyard_common.values.logged_event import LoggedEvent

#: How often the database is read although nothing was heard, in seconds.
LOOK_EVERY: Final = 15.0
PAGE: Final = 500
#: What is sent at once at most, in bytes, but for single frames that are larger: slow readers are bounded by it.
_PACK: Final = 32_768
#: What a page of a replay holds in memory while its reader takes it, in bytes, but for single events that are larger.
REPLAYED: Final = 2**20
#: How long a replay pauses while too much is unread, in seconds.
_RETRY_AFTER: Final = 1.0

#: Transactions may commit in another order than their times, by less than this (seconds).
OVERLAP: Final = 3.0
_FEED_PAGE: Final = 1_000
#: How many events of an organisation a follower knows to have been sent.
REMEMBERED: Final = 20_000

_ENDED: Final = frozenset(status.value for status in TERMINAL)


def response(
    state: State, org_id: str, frames: AsyncIterator[bytes], heard: Subscription | None = None
) -> EventStream:
    """The answer that sends these frames (of an async generator) for as long as they come, and closes `heard`.

    Whether the organisation may have one more (`state.open_calls.check`) is looked at before anything is stored for it.
    """
    counted, unread = partial(state.open_calls.count, org_id), partial(state.unread.count, org_id)
    return EventStream(cast(AsyncGenerator[bytes], frames), counted, unread, heard.close if heard else None)


def described(data: str, *names: str) -> dict[str, Any]:
    """The JSON Schema of a stream, for documents: what `data` of an event holds, and the names events may have.

    Readers take a stream as one text, or as its events.
    """
    properties: dict[str, Any] = {"data": {"type": "string", "description": data}}
    if names:
        properties["event"] = {"type": "string", "enum": list(names)}
    event = {"type": "object", "properties": properties, "required": ["data"]}
    return {
        "description": "The stream as a text, or each event of it.",
        "anyOf": [{"type": "string"}, event],
    }


def frame(data: Any, *, id_: str | None = None, event: str | None = None) -> bytes:
    """One event of the stream. Without a name it is a `message` to an EventSource."""
    head = f"id: {id_}\n" if id_ is not None else ""
    if event is not None:
        head += f"event: {event}\n"
    return head.encode() + b"data: " + orjson.dumps(data) + b"\n\n"


def packed(frames: Iterable[bytes]) -> Iterator[bytes]:
    """The same frames, small ones together: a send costs more than a frame. None waits for what is not there yet."""
    pack: list[bytes] = []
    size = 0
    for each in frames:
        if pack and size + len(each) > _PACK:
            yield b"".join(pack)
            pack, size = [], 0
        pack.append(each)
        size += len(each)
    if pack:
        yield b"".join(pack)


@dataclass(frozen=True, slots=True)
class Following:
    """A task to follow: from after event number `after`, with or without token deltas."""

    org_id: str
    task_id: str
    after: int = 0
    tokens: bool = True
    permitted: Callable[[], Awaitable[bool]] | None = None  # asked now and then; False ends the stream
    #: Began before its caller looked at the task, whose last event was `last_seq` then: what came later is heard.
    heard: Subscription | None = None
    last_seq: int | None = None


async def place_of(state: State, org_id: str, task_id: str, judged_at: int | None = None) -> Place:
    """How far a task of an organisation has come; `NotFound` task_not_found, also for another organisation's.
    `ConfigurationChanged` where the organisation's number is not `judged_at` (None: any)."""
    found = await state.reader.call(_places, OwnTask(org_id, task_id))
    if judged_at is not None:
        number = found.configured_at if found is not None else await state.configured_at(org_id)
        if number != judged_at:
            raise ConfigurationChanged
    if found is None:
        raise NotFound("There is no such task.", code="task_not_found", field="task_id")
    return found


async def task_news(state: State, wanted: Following) -> AsyncGenerator[Events | Tokens]:
    """A task's events in order, each once, and token deltas between them; ends with the task.

    The caller has checked that the task is that organisation's. What is heard live is the same object for all
    followers of a task, where they are as far as each other.
    """
    place, own = _Place(wanted.after), OwnTask(wanted.org_id, wanted.task_id)
    # Who comes back behind the last event needs no replay, and was permitted a moment ago.
    more = wanted.last_seq is None or wanted.last_seq > wanted.after
    just_permitted = wanted.last_seq is not None
    with wanted.heard or state.follower.follow(wanted.org_id, wanted.task_id, tokens=wanted.tokens) as heard:
        while not state.stopping.is_set() and (
            just_permitted or wanted.permitted is None or await wanted.permitted()
        ):
            just_permitted = False
            while more:
                read = partial(state.reader.call, _after, (own, place.seq))
                async with replayed(state, wanted.org_id, read) as found:
                    more = found.more or len(found) == PAGE
                    if place.advance(found):
                        yield Events(list(found))
            look_at = asyncio.get_running_loop().time() + LOOK_EVERY
            while not place.ended and isinstance(item := await heard_before(heard, look_at), Events | Tokens):
                fresh = place.fresh(item)
                if fresh is None:
                    break
                if isinstance(fresh, Tokens) or fresh.events:
                    yield fresh
            if place.ended:
                return
            more = True


@asynccontextmanager
async def replayed(
    state: State, org_id: str, read: Callable[[], Awaitable[Page[LoggedEvent]]]
) -> AsyncIterator[Page[LoggedEvent]]:
    """A page of a replay, which counts as unread for as long as the block lasts; waits while too much is unread."""
    found = await read()
    while not state.stopping.is_set() and not state.unread.fits(org_id, found.bytes):
        del found
        await asyncio.sleep(_RETRY_AFTER)
        found = await read()
    with state.unread.count(org_id, found.bytes):
        yield found


async def task_events(state: State, wanted: Following) -> AsyncIterator[LoggedEvent | Tokens]:
    """As `task_news`, event by event."""
    async with aclosing(task_news(state, wanted)) as news:
        async for item in news:
            if isinstance(item, Tokens):
                yield item
                continue
            for event in item.events:
                yield event


async def organisation_events(state: State, org_id: str, at: float) -> AsyncIterator[LoggedEvent]:
    """An organisation's stored events from a time on, page by page."""
    after: feed.Place | None = None
    while True:

        def page(conn: Connection, after: feed.Place | None = after) -> Page[LoggedEvent]:
            return feed.since(OrgScope(conn, org_id), at, _FEED_PAGE, after, REPLAYED)

        async with replayed(state, org_id, partial(state.reader.one, page)) as found:
            for event in found:
                yield event
            if not found.more:
                return
            after = feed.place_of(found[-1])


class SeenEvents:
    """Which events of an organisation were sent already, and from when on the database is to be read."""

    def __init__(self, start: float) -> None:
        self._known: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._latest = self._first = start

    @property
    def read_from(self) -> float:
        """Epoch seconds: a little before the latest event, for those that committed late."""
        return max(self._first, self._latest - OVERLAP)

    def add(self, task_id: str, seq: int) -> None:
        """This event is seen from now on."""
        self._known[task_id, seq] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def first_time(self, event: LoggedEvent) -> bool:
        """Whether this event was not seen before; it is seen from now on."""
        if (event["task_id"], event["seq"]) in self._known or event["at"] < self._first:
            return False
        self.add(event["task_id"], event["seq"])
        self._latest = max(self._latest, event["at"])
        return True


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

    def advance(self, events: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
        """Go on behind these events, which follow the last one without a gap."""
        if events:
            self.seq = events[-1]["seq"]
            self.attempt = max(self.attempt, events[-1]["attempt"])
            self.ended = ends(events[-1])
        return events

    def fresh(self, item: Events | Tokens) -> Events | Tokens | None:
        """The new part of a live message (the message itself, if all is); None when events before it were missed."""
        if isinstance(item, Tokens):
            return item if item.attempt >= self.attempt else _NOTHING
        new = [event for event in item.events if event["seq"] > self.seq]
        if [event["seq"] for event in new] != list(range(self.seq + 1, self.seq + 1 + len(new))):
            return None
        self.advance(new)
        return item if len(new) == len(item.events) else Events(new)


_NOTHING: Final = Events([])


def ends(event: LoggedEvent) -> bool:
    return (event["data"] or {}).get("status") in _ENDED


def _after(conn: Connection, asked: Sequence[tuple[OwnTask, int]]) -> Sequence[Page[LoggedEvent]]:
    return events.after_each(conn, asked, PAGE, REPLAYED)


def _places(conn: Connection, asked: Sequence[OwnTask]) -> list[Place | None]:
    found = tasks.places(conn, set(asked))
    return [found.get(own) for own in asked]
