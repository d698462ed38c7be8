"""Realtime: runs as they change, of the organisation, of one agent, or of one run (contract, section 10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from runyard_api import sse
from runyard_api.http.call import Call
from runyard_api.http.operations import Answer
from runyard_api.state import State
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, end_user, parameter
from runyard_api.surfaces.appstrate.packages import drafts
from runyard_api.surfaces.appstrate.runs import logs
from runyard_api.surfaces.appstrate.runs.runs import task_of
from runyard_api.surfaces.appstrate.runs.views import update_json
from runyard_api.task_snapshot import snapshot
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.identity.rules.roles import Role
from runyard_common.runs.queries import events
from runyard_common.runs.rules.lifecycle import INITIAL, TERMINAL, Event, Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.stream import Events
from runyard_common.values.errors import NotFound
from runyard_common.values.json_text import LARGE
from runyard_common.values.logged_event import LoggedEvent
from runyard_common.values.models import Model

routes = AppstrateRoutes("appstrate realtime")

#: A ping comes at once, and after so many seconds of silence.
PING_AFTER: Final = 30.0
PING: Final = b"event: ping\ndata: \n\n"
LONGEST_MESSAGE: Final = 2000
LARGEST_DATA: Final = 6000
_OMITTED: Final = {"truncated": True}
_LIFECYCLE: Final = frozenset(event.value for event in Event)
_FIRST: Final = frozenset(event.value for event in INITIAL)
_STREAM: Final = Answer(
    200,
    "Named events for as long as the client stays.",
    sse.described("What happened; empty in a ping.", "ping", "run_update", "run_log"),
    "text/event-stream",
)


class StreamQuery(Model):
    """How to follow."""

    orgId: str | None = Field(None, description="The organisation, for a signed-in person.")  # noqa: N815
    token: str | None = Field(None, description="An API key: an EventSource sets no headers.")
    verbose: str | None = Field(None, description="true: log entries carry their data.")


@dataclass(frozen=True, slots=True)
class Watch:
    """What a stream follows."""

    org_id: str
    verbose: bool
    debug: bool
    end_user_id: str | None
    permitted: Callable[[], Awaitable[bool]]  # asked now and then; False ends the stream
    task: Task | None = None
    package: str | None = None

    def shows(self, task: Task) -> bool:
        """Whether this run is among it."""
        return self.package in (None, task.agent_name) and self.end_user_id in (None, task.end_user_id)


@routes.get("/realtime/runs", "runs:read", query=StreamQuery, answers=[_STREAM], errors=(429,))
async def follow_runs(call: Call) -> Response:
    """Follow all runs of the organisation."""
    return sse.response(call.state, call.org_id, _frames(call.state, _watch(call)))


@routes.get("/realtime/runs/{run_id}", "runs:read", query=StreamQuery, answers=[_STREAM], errors=(429,))
async def follow_run(call: Call) -> Response:
    """Follow one run: a snapshot first, then its status and logs as they come."""
    task = await task_of(call)
    return sse.response(call.state, call.org_id, _frames(call.state, replace(_watch(call), task=task)))


@routes.get(
    "/realtime/agents/{package:agent}/runs",
    "runs:read",
    query=StreamQuery,
    answers=[_STREAM],
    errors=(429,),
)
async def follow_agent_runs(call: Call) -> Response:
    """Follow one agent's runs; its name is URL-encoded."""
    agent = await call.read(drafts.live, call.params["package"])
    watch = replace(_watch(call), package=agent.agent.name)
    return sse.response(call.state, call.org_id, _frames(call.state, watch))


def _watch(call: Call) -> Watch:
    call.state.open_calls.check(call.org_id)
    verbose = (parameter(call, "verbose") or "").lower() in ("true", "1")
    debug = call.principal.role in (Role.OWNER, Role.ADMIN)
    return Watch(call.org_id, verbose, debug, end_user(call), call.permitted)


async def _frames(state: State, watch: Watch) -> AsyncIterator[bytes]:
    seen = _Seen(await state.reader.one(state.db.now), watch.task)
    task_id = watch.task.id if watch.task else None
    clock = asyncio.get_running_loop().time
    with state.follower.follow(watch.org_id, task_id) as heard:
        yield PING
        if watch.task is not None:
            yield sse.frame(update_json(watch.task, "UPDATE"), event="run_update")
        sent_at = asked_at = clock()
        found: AsyncIterator[LoggedEvent] = _missed(
            state, watch, seen
        )  # between reading the run and listening
        while not state.stopping.is_set():
            async for event in found:
                if seen.first_time(event):
                    async for frame in _event_frames(state, watch, event):
                        yield frame
                        sent_at = clock()
            if clock() - asked_at >= sse.LOOK_EVERY:
                if not await watch.permitted():
                    return
                asked_at = clock()
            # What others' runs do is heard too, and is no frame: the silence that counts is the client's.
            item = await sse.heard_before(heard, min(sent_at + PING_AFTER, asked_at + sse.LOOK_EVERY))
            if clock() - sent_at >= PING_AFTER:
                yield PING
                sent_at = clock()
            found = _heard(item) if isinstance(item, Events) else _missed(state, watch, seen)


async def _heard(item: Events) -> AsyncIterator[LoggedEvent]:
    for event in item.events:
        yield event


async def _missed(state: State, watch: Watch, seen: _Seen) -> AsyncIterator[LoggedEvent]:
    """What the database knows since the last event seen, page by page."""
    if watch.task is None:
        async for event in sse.organisation_events(state, watch.org_id, seen.read_from):
            yield event
        return
    task_id, more = watch.task.id, True
    while more:

        def page(conn: Connection, seq: int = seen.seq) -> Page[LoggedEvent]:
            return events.after(OrgScope(conn, watch.org_id), task_id, seq, sse.PAGE, sse.REPLAYED)

        async with sse.replayed(state, watch.org_id, partial(state.reader.one, page)) as found:
            more = found.more or len(found) == sse.PAGE
            for event in found:
                yield event


class _Seen(sse.SeenEvents):
    """Which events were sent already: a live tail begins now and sends each once. Those of one run are in order."""

    def __init__(self, start: float, task: Task | None) -> None:
        super().__init__(start)
        self._one_run = task is not None
        self.seq = task.last_seq if task else 0

    def first_time(self, event: LoggedEvent) -> bool:
        """Whether this event is new; it is known from now on."""
        if not self._one_run:
            return super().first_time(event)
        is_new = event["seq"] > self.seq
        self.seq = max(self.seq, event["seq"])
        return is_new


async def _event_frames(state: State, watch: Watch, event: LoggedEvent) -> AsyncIterator[bytes]:
    try:
        task = (await snapshot(state, watch.org_id, event["task_id"])).task
    except NotFound:  # deleted meanwhile
        return
    if not watch.shows(task):
        return
    ends = (event["data"] or {}).get("status") in TERMINAL
    if ends and task.stored_length > LARGE:
        made = await state.costly.do(watch.org_id, _made, task, watch, event)
    else:
        made = _made(task, watch, event)
    for frame in made:
        yield frame


def _made(task: Task, watch: Watch, event: LoggedEvent) -> list[bytes]:
    frames = [
        sse.frame(log_json(e, watch.verbose), event="run_log") for e in logs.logs(task, [event], watch.debug)
    ]
    if event["type"] not in _LIFECYCLE:
        return frames
    operation = "INSERT" if event["type"] in _FIRST else "UPDATE"
    return [sse.frame(update_json(_as_of(task, event), operation), event="run_update"), *frames]


def _as_of(task: Task, event: LoggedEvent) -> Task:
    """The task as it was with this event: it may have gone on since."""
    status = Status((event["data"] or {}).get("status", task.status))
    if status in TERMINAL:
        return task
    started = task.started_at if status not in (Status.PENDING, Status.QUEUED) or event["attempt"] else None
    return replace(task, status=status, started_at=started, finished_at=None, error=None)


def log_json(entry: dict[str, Any], verbose: bool) -> dict[str, Any]:
    """A log entry as a frame: its message cut, its data dropped unless asked for, and bounded."""
    shown = entry | {"message": entry["message"][:LONGEST_MESSAGE] if entry["message"] else None}
    if not verbose:
        del shown["data"]
    elif len(orjson.dumps(shown["data"], option=orjson.OPT_NON_STR_KEYS, default=str)) > LARGEST_DATA:
        shown["data"] = _OMITTED
    return shown
