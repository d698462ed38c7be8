"""Event streams: of one task from any point on, and of the whole organisation as it happens."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import ExitStack, aclosing
from typing import Annotated, Final

from pydantic import BeforeValidator, Field
from starlette.responses import Response

from runyard_api import sse
from runyard_api.http.call import Call
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import ROOTED, NativeRoutes, Parameters
from runyard_api.native.runs.task_view import event_json
from runyard_api.native.runs.tasks import task_id as parsed_id
from runyard_api.state import State
from runyard_api.task_snapshot import snapshot
from runyard_common.runs.queries import events
from runyard_common.runs.rules.lifecycle import TERMINAL
from runyard_common.stream import Events, Tokens
from runyard_common.values.errors import InvalidRequest
from runyard_common.values.logged_event import LoggedEvent

routes = NativeRoutes("events")

_STREAM: Final = "text/event-stream"
_FRAME: Final = sse.described(
    "An Event; or, by their names, a token delta, and the end.", "message", "token", "end"
)
#: A live message of so many events is put into frames once for all its followers; more are a replay, done bit by bit.
_FEW: Final = 20
#: No event has a higher number: they are stored in 32 bits.
_LAST: Final = 2**31 - 1


def _number(text: str) -> int:
    """A number as the ids of events are written; `ValueError` for any other text."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_LAST)) and int(text) <= _LAST):
        raise ValueError(f"write the number of an event, from 0 to {_LAST}")
    return int(text)


class TaskEventParameters(Parameters):
    """From where on, and how much."""

    after: Annotated[int, Field(ge=0, le=_LAST), BeforeValidator(_number)] | None = Field(
        None, description="The number of the last event you have; 0 is the beginning."
    )
    limit: int = Field(100, ge=1, le=1000, description="Of a JSON page: how many at most.")
    tokens: bool = Field(True, description="Of a stream: whether token deltas are sent too.")


@routes.get(
    "/tasks/{task_id}/events",
    "runs:read",
    query=TaskEventParameters,
    prefixes=ROOTED,
    headers=("Last-Event-ID", "Accept"),
    answers=[
        Answer(200, "A page of the log, when Accept is application/json.", schemas.EventPage),
        Answer(200, "The log as it grows, until the task has ended.", _FRAME, _STREAM),
        Answer(204, "There is nothing more to come."),
    ],
    errors=(429,),
    checks_memory=True,
)
async def task_events(call: Call) -> Response:
    """Follow a task's events.

    Numbered events come as unnamed messages whose id is their number; send the last one back in
    Last-Event-ID (or ?after=) to go on from there, without a gap or a repeat. Token deltas come as `token`
    messages without a number: they are live only, and folded into the event that closes them. An `end`
    message closes the stream of a task that has ended.
    """
    given = call.query(TaskEventParameters)
    task_id = parsed_id(call)
    state, org_id = call.state, call.org_id
    if call.accepts("application/json") and not call.accepts(_STREAM):
        await sse.place_of(state, org_id, task_id, call.judged_at)
        return await _page(call, task_id, _after(call, given), given.limit)
    with ExitStack() as unless_answered:
        # Before the look at the task, so that nothing between the two is missed.
        heard = unless_answered.enter_context(state.follower.follow(org_id, task_id, tokens=given.tokens))
        place = await sse.place_of(state, org_id, task_id, call.judged_at)
        known = _after(call, given)
        after = min(
            known, place.last_seq
        )  # followed from there, so that the end is seen where it is numbered lower
        if place.status in TERMINAL and after >= place.last_seq:
            return Response(status_code=204)  # an EventSource stops reconnecting
        call.state.open_calls.check(org_id)
        unless_answered.pop_all()
    wanted = sse.Following(org_id, task_id, after, given.tokens, call.permitted, heard, place.last_seq)
    return sse.response(state, org_id, _frames(state, wanted, known), heard)


def _after(call: Call, given: TaskEventParameters) -> int:
    """The number of the last event that the caller has."""
    return given.after if given.after is not None else _last_id(call)


def _last_id(call: Call) -> int:
    try:
        return _number(call.headers.get("last-event-id") or "0")
    except ValueError:
        raise InvalidRequest(
            "Last-Event-ID is the number of an event of this task.",
            code="invalid_cursor",
            field="Last-Event-ID",
        ) from None


async def _page(call: Call, task: str, after: int, limit: int) -> Response:
    rows = await call.read(events.after, task, after, limit + 1)
    data = [event_json(row) for row in rows[:limit]]
    body = {
        "data": data,
        "has_more": rows.more or len(rows) > limit,
        "next_after": data[-1]["seq"] if data else after,
    }
    return await call.reply_with((), lambda: body, besides=rows.bytes)


async def _frames(state: State, wanted: sse.Following, known: int) -> AsyncGenerator[bytes]:
    """What the follower gets: no event up to the number `known`, but the end also where that is one of them."""
    async with aclosing(sse.task_news(state, wanted)) as news:
        async for item in news:
            if isinstance(item, Tokens):
                packs: Iterable[bytes] = item.once(_tokens)
            elif len(item.events) > _FEW or item.events[0]["seq"] <= known:
                packs = sse.packed(_numbered(item, known))
            else:
                packs = item.once(_events)
            for pack in packs:
                yield pack


def _tokens(item: Tokens) -> list[bytes]:
    content = {"task_id": item.task_id, "attempt": item.attempt}
    return list(sse.packed(sse.frame(content | {"data": data}, event="token") for data in item.tokens))


def _events(item: Events) -> list[bytes]:
    return list(sse.packed(_numbered(item)))


def _numbered(item: Events, known: int = 0) -> Iterator[bytes]:
    for event in item.events:
        if event["seq"] > known:
            yield sse.frame(event_json(event), id_=str(event["seq"]))
        if sse.ends(event):
            content = {"task_id": event["task_id"], "status": event["data"]["status"]}
            yield sse.frame(content, event="end")


class OrganisationEventParameters(Parameters):
    """Which events."""

    types: str | None = Field(None, max_length=1000, description="Comma-separated event types.")
    status: str | None = Field(None, max_length=200, description="Comma-separated statuses the task came to.")
    agent_id: str | None = Field(None, max_length=64, description="An agent, or one version of it.")
    session_id: str | None = Field(None, max_length=64)


@routes.get(
    "/events",
    "events:read",
    query=OrganisationEventParameters,
    headers=("Last-Event-ID",),
    answers=[Answer(200, "Events of all tasks, as they happen.", _FRAME, _STREAM)],
    errors=(429,),
)
async def organisation_events(call: Call) -> Response:
    """Follow the events of all tasks of the organisation.

    Begins now, or behind Last-Event-ID. Within one connection nothing is missed or repeated; after a
    reconnect the last seconds may come again: an event is known by its task_id and seq.
    """
    given = call.query(OrganisationEventParameters)
    call.state.open_calls.check(call.org_id)
    last = call.headers.get("last-event-id")
    start = _cursor_time(last) if last else await call.state.reader.one(call.state.db.now)
    frames = _organisation(call, _Wanted(call.state, call.org_id, given), start, last or None)
    return sse.response(call.state, call.org_id, frames)


class _Wanted:
    """Which events a follower asked for; what tasks they belong to is remembered."""

    def __init__(self, state: State, org_id: str, given: OrganisationEventParameters) -> None:
        self._state, self._org_id = state, org_id
        self._types = _names(given.types)
        self._statuses = _names(given.status)
        self._agent, self._session = given.agent_id, given.session_id
        self._tasks: OrderedDict[str, bool] = OrderedDict()

    async def __call__(self, event: LoggedEvent) -> bool:
        if self._types and event["type"] not in self._types:
            return False
        if self._statuses and (event["data"] or {}).get("status") not in self._statuses:
            return False
        if self._agent is None and self._session is None:
            return True
        id_ = event["task_id"]
        if id_ not in self._tasks:
            task = (await snapshot(self._state, self._org_id, id_)).task
            fits_agent = self._agent in (None, task.agent_id, task.version_id)
            self._tasks[id_] = fits_agent and self._session in (None, task.session_id)
            if len(self._tasks) > sse.REMEMBERED:
                self._tasks.popitem(last=False)
        return self._tasks[id_]


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (text or "").split(",") if name.strip())


async def _organisation(call: Call, wanted: _Wanted, start: float, last: str | None) -> AsyncGenerator[bytes]:
    state, org_id, loop = call.state, call.org_id, asyncio.get_running_loop()
    seen = sse.SeenEvents(start - (sse.OVERLAP if last else 0.0))
    if last:
        _, task_id, seq = last.split("/")
        seen.add(task_id, int(seq))
    with state.follower.follow(org_id) as heard:
        while not state.stopping.is_set() and await call.permitted():
            look_at = loop.time() + sse.LOOK_EVERY
            async for event in sse.organisation_events(state, org_id, seen.read_from):
                if seen.first_time(event) and await wanted(event):
                    yield _organisation_frame(event)
            while isinstance(item := await sse.heard_before(heard, look_at), Events):
                for event in item.events:
                    if seen.first_time(event) and await wanted(event):
                        yield _organisation_frame(event)


def _organisation_frame(event: LoggedEvent) -> bytes:
    return sse.frame(event_json(event), id_=f"{event['at']!r}/{event['task_id']}/{event['seq']}")


def _cursor_time(last: str) -> float:
    parts = last.split("/")
    try:
        at = float(parts[0])
        if len(parts) == 3 and int(parts[2]) > 0 and 0 < at < 1e11:
            return at
    except ValueError:
        pass
    raise InvalidRequest(
        "Last-Event-ID is the id of an event of this stream.", code="invalid_cursor", field="Last-Event-ID"
    )
