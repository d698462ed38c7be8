"""Schedules: agents that run at a date, after a delay, or again and again."""

from __future__ import annotations

import math
from typing import Final

from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.access.auth import require
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.paths import under
from runyard_api.native import schemas
from runyard_api.native.front import (
    BASE,
    NATIVE,
    NativeRoutes,
    Paging,
    Parameters,
    bad_cursor,
    page,
    uncursor,
    when,
)
from runyard_api.native.runs.task_view import hint, links
from runyard_api.native.schedules.schedule_requests import (
    BackfillBody,
    PauseBody,
    PreviewBody,
    ScheduleBody,
    ScheduleChange,
    named_by_caller,
)
from runyard_api.native.schedules.schedule_view import (
    BackfillView,
    FirePage,
    SchedulePage,
    ScheduleView,
    Upcoming,
    backfill_json,
    fire_json,
    schedule_json,
    upcoming_json,
)
from runyard_common.database.transaction import Tx
from runyard_common.runs.service.runs import Caller
from runyard_common.schedules.queries import fires, schedules
from runyard_common.schedules.rules.new_schedule import NewSchedule
from runyard_common.schedules.rules.preview import MAX_PREVIEW
from runyard_common.schedules.rules.stored_schedule import ScheduleState, StoredSchedule
from runyard_common.schedules.service import backfills
from runyard_common.schedules.service import schedules as service
from runyard_common.schedules.service.schedules import Triggered

routes = NativeRoutes("schedules")

_RUN: Final = "runs:create"


def schedule_id(call: Call) -> str:
    return call.params["schedule_id"]


@routes.post(
    "/schedules",
    "schedules:write",
    body=ScheduleBody,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The schedule.", ScheduleView, headers=("Location",))],
    errors=(403, 404),
)
async def create_schedule(call: Call) -> Response:
    """Make a schedule.

    The run is judged now as if it came now, and again each time it is due. An organisation has a bound on
    schedules that are not finished: beyond it 409 too_many_schedules.
    """
    require(call.principal, _RUN)
    body = await call.json(ScheduleBody)
    with named_by_caller(body.run):
        new = await _judged(call, body)

    def create(tx: Tx) -> StoredSchedule:
        with named_by_caller(body.run):
            return service.create(tx, new, who.actor)

    who = call.principal
    return await idempotency.create(
        call,
        create,
        lambda made: reply(schedule_json(made, who), 201, {"location": under(f"{BASE}/schedules/{made.id}")}),
    )


async def _judged(call: Call, body: ScheduleBody) -> NewSchedule:
    agent = await call.state.agents.find(call.org_id, body.agent, body.run.version)
    who = call.principal
    caller = Caller(who.org_id, who.actor, NATIVE.name, who.key_id)
    version = service.pinned_version(body.agent, agent)
    rules, now = call.state.rules, call.state.now()
    return await call.work_on_body(
        service.prepare, body.wanted, body.run, agent, caller, rules, now=now, version=version
    )


class ScheduleFilters(Paging):
    """Which schedules."""

    agent: str | None = Field(None, max_length=200, description="Of this agent.")
    state: ScheduleState | None = Field(None, description="In this state.")


@routes.get(
    "/schedules",
    "schedules:read",
    query=ScheduleFilters,
    answers=[Answer(200, "A page of schedules.", SchedulePage)],
    errors=(404,),
)
async def list_schedules(call: Call) -> Response:
    """List schedules, newest first."""
    given = call.query(ScheduleFilters)
    org_id, limit, before, state = call.org_id, given.limit, given.before, given.state
    agent_id = None
    if given.agent is not None:
        agent_id = (await call.state.agents.find(org_id, given.agent)).ref.agent_id
    rows = await call.read(schedules.page, limit + 1, before, agent_id, state)
    who = call.principal
    return reply(page([schedule_json(row, who) for row in rows], limit, [row.id for row in rows], rows.more))


@routes.post(
    "/schedules/preview",
    "schedules:read",
    body=PreviewBody,
    answers=[Answer(200, "The times.", Upcoming)],
)
async def preview_schedule(call: Call) -> Response:
    """Show when a schedule would be due, without making it.

    Times that a shift of the clocks skips, moves or doubles carry a note.
    """
    body = await call.json(PreviewBody)
    times = await call.state.preview(lambda tx: service.what_if(body.wanted, tx.now, body.count))
    return reply(upcoming_json(times))


@routes.get(
    "/schedules/{schedule_id}",
    "schedules:read",
    answers=[Answer(200, "The schedule.", ScheduleView)],
)
async def get_schedule(call: Call) -> Response:
    """Read a schedule."""
    found = await call.state.preview(service.get, call.org_id, schedule_id(call))
    return reply(schedule_json(found, call.principal))


@routes.patch(
    "/schedules/{schedule_id}",
    "schedules:write",
    body=ScheduleChange,
    answers=[Answer(200, "The schedule as it is now.", ScheduleView)],
    errors=(403, 409),
)
async def change_schedule(call: Call) -> Response:
    """Change a schedule.

    New times count from now. A finished schedule that is due again becomes active; a paused one stays paused.
    """
    require(call.principal, _RUN)
    body = await call.json(ScheduleChange)
    changed = await call.write(_change, schedule_id(call), body, call)
    return reply(schedule_json(changed, call.principal))


def _change(tx: Tx, org_id: str, id_: str, body: ScheduleChange, call: Call) -> StoredSchedule:
    rules, actor = call.state.rules, call.actor
    with named_by_caller(body.run):
        return service.update(tx, org_id, id_, body.changes, body.run, rules, actor)


class RemoveParameters(Parameters):
    """How to delete."""

    stop_running: bool = Field(False, description="Stop its run under way, too.")


@routes.delete(
    "/schedules/{schedule_id}",
    "schedules:delete",
    query=RemoveParameters,
    answers=[Answer(204, "It never fires again.")],
)
async def delete_schedule(call: Call) -> Response:
    """Delete (cancel) a schedule and its history.

    Its tasks stay. Runs that wait behind an earlier one are stopped; one under way goes on, unless
    stop_running is set.
    """
    stop_running = call.query(RemoveParameters).stop_running
    await call.write(service.remove, schedule_id(call), call.actor, stop_running)
    return Response(status_code=204)


@routes.post(
    "/schedules/{schedule_id}/pause",
    "schedules:write",
    body=PauseBody,
    body_optional=True,
    answers=[Answer(200, "The schedule, paused.", ScheduleView)],
    errors=(409,),
)
async def pause_schedule(call: Call) -> Response:
    """Pause a schedule; a run under way goes on."""
    reason, actor = (await call.optional_json(PauseBody)).reason, call.actor
    paused = await call.write(service.pause, schedule_id(call), reason or f"by {actor}", actor)
    return reply(schedule_json(paused, call.principal))


@routes.post(
    "/schedules/{schedule_id}/resume",
    "schedules:write",
    answers=[Answer(200, "The schedule, active.", ScheduleView)],
    errors=(409,),
)
async def resume_schedule(call: Call) -> Response:
    """Let a paused schedule go on from now; times that passed meanwhile are not made up for."""
    resumed = await call.write(service.resume, schedule_id(call), call.actor)
    return reply(schedule_json(resumed, call.principal))


@routes.post(
    "/schedules/{schedule_id}/trigger",
    "schedules:write",
    headers=("Idempotency-Key",),
    answers=[Answer(202, "The run is stored.", schemas.Accepted, headers=("Location",))],
    errors=(402, 403, 429),
)
async def trigger_schedule(call: Call) -> Response:
    """Run a schedule now, besides its due times, also while it is paused.

    Its overlap policy holds: where that leaves out what overlaps, the answer is 409 schedule_busy.
    """
    require(call.principal, _RUN)

    rules, id_, actor = call.state.rules, schedule_id(call), call.actor
    # None: what is under way is stopped first, in a transaction of its own.
    return await idempotency.create(
        call, lambda tx: service.trigger(tx, rules, call.org_id, id_, actor), _triggered, content=b""
    )


def _triggered(made: Triggered) -> Response:
    accepted, id_ = made.accepted, made.accepted.task_id
    body = {
        "task_id": id_,
        "schedule_id": made.schedule.id,
        "agent_id": made.agent.version_id,
        "agent": made.agent.name,
        "version": made.agent.version,
        "status": accepted.status.value,
        "message": hint(accepted.status, id_),
        "session_id": accepted.session_id,
        "created_at": when(accepted.created_at),
        "poll_after_ms": 500,
        "links": links(id_),
    }
    return reply(body, 202, {"location": under(f"{BASE}/tasks/{id_}")})


@routes.post(
    "/schedules/{schedule_id}/backfill",
    "schedules:write",
    body=BackfillBody,
    headers=("Idempotency-Key",),
    answers=[
        Answer(202, "The runs are stored.", BackfillView),
        Answer(200, "A dry run: the times without a run.", BackfillView),
    ],
    errors=(402, 403, 429),
)
async def backfill_schedule(call: Call) -> Response:
    """Make up for due times that passed without a run: while the schedule was paused, before it was made.

    All runs of an answer are stored, or none. Each knows its due time (`input.due_at`). They wait for their limits as
    all runs do, and count neither for the overlap policy nor for max_fires and failures in a row. A longer range goes
    on with `next_since`.
    """
    require(call.principal, _RUN)
    asked = (await call.json(BackfillBody)).asked
    rules, id_, actor = call.state.rules, schedule_id(call), call.actor
    return await idempotency.create(
        call,
        lambda tx: backfills.make_up(tx, rules, call.org_id, id_, asked, actor),
        lambda made: reply(backfill_json(made), 200 if made.dry_run else 202),
    )


class CountParameter(Parameters):
    """How many times."""

    count: int = Field(10, description=f"At most {MAX_PREVIEW}.")


@routes.get(
    "/schedules/{schedule_id}/preview",
    "schedules:read",
    query=CountParameter,
    answers=[Answer(200, "The times.", Upcoming)],
)
async def preview_stored(call: Call) -> Response:
    """Show when a schedule is due next; for a paused one, as if it were resumed now."""
    count, org_id, id_ = call.query(CountParameter).count, call.org_id, schedule_id(call)
    times = await call.state.preview(lambda tx: service.upcoming(service.get(tx, org_id, id_), tx.now, count))
    return reply(upcoming_json(times))


@routes.get(
    "/schedules/{schedule_id}/fires",
    "schedules:read",
    query=Paging,
    answers=[Answer(200, "A page of its history, latest due time first.", FirePage)],
)
async def list_fires(call: Call) -> Response:
    """Show what each due time came to, with its task as long as that is kept."""
    given = call.query(Paging)
    before, limit, id_ = _due_before(given), given.limit, schedule_id(call)
    await call.state.preview(service.get, call.org_id, id_)
    rows = await call.read(fires.page, id_, limit + 1, before)
    return reply(
        page([fire_json(row, task) for row, task in rows], limit, [repr(row.due_at) for row, _ in rows])
    )


def _due_before(given: Paging) -> float | None:
    if not given.cursor:
        return None
    text = uncursor(given.cursor)
    try:
        due_at = float(text)
    except ValueError:
        raise bad_cursor() from None
    if not math.isfinite(due_at) or repr(due_at) != text:
        raise bad_cursor()
    return due_at
