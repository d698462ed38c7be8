"""Runs: read, list, read logs, cancel, delete (contract, section 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, bounded, end_user, fitted, parameter
from runyard_api.surfaces.appstrate.packages import drafts
from runyard_api.surfaces.appstrate.runs import logs
from runyard_api.surfaces.appstrate.runs.start import package_of
from runyard_api.surfaces.appstrate.runs.views import RunExtras, run_json, task_id_of
from runyard_api.surfaces.appstrate.schemas import DeletedRuns, Done, Run, RunLog, RunPage
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.roles import Role
from runyard_common.runs.queries import events, prune, tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import ACTIVE, TERMINAL
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import bulk
from runyard_common.usage import queries as usage
from runyard_common.values.errors import Conflict, IllegalTransition, NotFound
from runyard_common.values.json_text import JsonObject
from runyard_common.values.models import Model

routes = AppstrateRoutes("appstrate runs")

_MOST_EVENTS: Final = 10_000
_AT_ONCE: Final = 500
_ADMINS: Final = (Role.OWNER, Role.ADMIN)


class Range(Model):
    """Which part of a list; out-of-range values fall to the default."""

    limit: str | None = Field(None, description="1 to 100.")
    offset: str | None = None


class MyRange(Range):
    """Whose runs."""

    user: str | None = Field(None, description="me: only those the caller started.")


async def task_of(call: Call) -> Task:
    """The run the path names; `NotFound`, also for another end-user's where the call acts for one."""
    id_ = task_id_of(call.params["run_id"])
    found = await call.read(tasks.get, id_) if id_ else None
    acting = end_user(call)
    if found is None or acting not in (None, found.end_user_id):
        raise NotFound("There is no such run.", code="not_found", field="id")
    return found


def extras_of(conn: Connection, found: Sequence[Task]) -> RunExtras:
    """What other tables have of these runs."""
    keys = {task.key_id for task in found if task.key_id}
    return RunExtras(usage.numbers(conn, found), usage.applications(conn, keys) if keys else {})


@routes.get("/runs/{run_id}", "runs:read", answers=[Answer(200, "The run.", Run)])
async def get_run(call: Call) -> Response:
    """Read a run."""
    task = await task_of(call)
    extras = await call.state.reader.one(lambda conn: extras_of(conn, [task]))
    return await call.reply_with([task], lambda: run_json(task, extras))


@routes.get(
    "/runs/{run_id}/logs",
    "runs:read",
    answers=[Answer(200, "Its log entries, by id.", {"type": "array", "items": RunLog.model_json_schema()})],
)
async def get_run_logs(call: Call) -> Response:
    """Read a run's logs. Only administrators get those of level debug.

    Behind 8 MB of data the entries that hold much have {"truncated": true} in place of theirs.
    """
    task = await task_of(call)
    found = await call.read(events.outline, task.id, _MOST_EVENTS)
    debug = call.principal.role in _ADMINS

    def build() -> list[JsonObject]:
        return fitted(logs.logs(task, logs.noted(task, found), debug), {"data": logs.OMITTED})

    return await call.reply_with([task], build, besides=found.bytes)


@routes.post(
    "/runs/{run_id}/cancel", "runs:cancel", answers=[Answer(200, "It is cancelled.", Done)], errors=(409,)
)
async def cancel_run(call: Call) -> Response:
    """Cancel a run that has not ended."""
    task = await task_of(call)
    refusal = Conflict("This run has ended; it cannot be cancelled.", code="not_cancellable")
    if task.status in TERMINAL:
        raise refusal
    try:
        await call.write(bulk.cancel, task.id, "Cancelled by user", call.actor)
    except IllegalTransition:
        raise refusal from None
    return reply({"ok": True})


@routes.get(
    "/agents/{scope}/{name}/runs",
    "runs:read",
    query=Range,
    answers=[Answer(200, "Its runs, newest first.", RunPage)],
)
async def list_agent_runs(call: Call) -> Response:
    """List an agent's runs."""
    agent = await call.read(drafts.live, package_of(call))
    return await listed(call, Filter(agent_id=agent.agent.id), 50)


@routes.get("/runs", "runs:read", query=MyRange, answers=[Answer(200, "Runs, newest first.", RunPage)])
async def list_runs(call: Call) -> Response:
    """List the runs of the organisation, or only one's own."""
    mine = parameter(call, "user") == "me" and end_user(call) is None
    return await listed(call, Filter(created_by=call.actor if mine else None), 20)


async def listed(call: Call, wanted: Filter, default: int) -> Response:
    """A page of runs with the total, which counts to 100,000; an end-user sees its own alone. A page of large runs
    ends early."""
    limit, offset = bounded(call, "limit", default), bounded(call, "offset", 0, None, 0)
    wanted = replace(wanted, end_user_id=end_user(call))

    def read(scope: OrgScope) -> tuple[Page[Task], RunExtras, int]:
        found = tasks.whole_page(scope, wanted, limit, offset)
        return found, extras_of(scope.conn, found), tasks.count(scope, wanted)

    found, extras, total = await call.read(read)
    counted = {"total": total} | ({"totalIsExact": False} if total == tasks.COUNTED else {})
    return await call.reply_with(
        found, lambda: {"runs": [run_json(task, extras) for task in found]} | counted
    )


@routes.delete(
    "/agents/{scope}/{name}/runs",
    "runs:delete",
    answers=[Answer(200, "They are deleted.", DeletedRuns)],
    errors=(403, 409),
)
async def delete_agent_runs(call: Call) -> Response:
    """Delete an agent's runs. Refused while one of them has not ended."""
    agent = await call.read(drafts.live, package_of(call))
    deleted = 0
    actor = call.actor
    while count := await call.write(_delete_some, agent.agent.id, actor):
        deleted += count
    return reply({"deleted": deleted})


def _delete_some(tx: Tx, org_id: str, agent_id: str, actor: str) -> int:
    if tasks.page(tx.scope(org_id), Filter(agent_id=agent_id, statuses=tuple(ACTIVE)), 1):
        raise Conflict("A run of this agent has not ended; cancel it first.", code="run_in_progress")
    removed = prune.remove_ended_of_agent(tx, org_id, agent_id, _AT_ONCE)
    if removed:
        identity.audit(tx, org_id, actor, "agent.delete_runs", agent_id, {"runs": removed})
    return removed
