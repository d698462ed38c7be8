"""Schedules of agents by cron lines (contract, section 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import require
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.appstrate.front import APPSTRATE, AppstrateRoutes, end_user, fitted, when
from runyard_api.surfaces.appstrate.packages import drafts
from runyard_api.surfaces.appstrate.runs import inputs, readiness
from runyard_api.surfaces.appstrate.runs.runs import Range, listed
from runyard_api.surfaces.appstrate.runs.start import PERMISSION, package_of, unjudged
from runyard_api.surfaces.appstrate.runs.views import schedule_id
from runyard_api.surfaces.appstrate.schemas import Done, Open, RunPage
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.service.runs import Caller, RunRules
from runyard_common.schedules.queries import schedules
from runyard_common.schedules.rules import new_schedule
from runyard_common.schedules.rules.new_schedule import NewSchedule, Wanted
from runyard_common.schedules.rules.schedule import CronSchedule
from runyard_common.schedules.rules.stored_schedule import ScheduleState, StoredSchedule
from runyard_common.schedules.service import schedules as service
from runyard_common.values.errors import InvalidRequest, NotFound, ScheduleError
from runyard_common.values.ids import is_uuid
from runyard_common.values.json_text import JsonObject

routes = AppstrateRoutes("appstrate schedules")

_UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_FIELDS: Final = {"schedule": "cronExpression"}


class AppstrateScheduleChange(Tolerant):
    """What to change of a schedule."""

    connectionProfileId: str = Field("", pattern=_UUID)  # noqa: N815
    cronExpression: str = Field("", min_length=1, max_length=200, description="Five fields.")  # noqa: N815
    name: str | None = Field(None, max_length=200)
    timezone: str = Field("UTC", max_length=64, description="An IANA zone.")
    input: dict[str, Any] | None = None
    enabled: bool = True


class AppstrateScheduleBody(Tolerant):
    """A schedule to make."""

    connectionProfileId: str = Field(pattern=_UUID)  # noqa: N815
    cronExpression: str = Field(min_length=1, max_length=200, description="Five fields.")  # noqa: N815
    name: str | None = Field(None, max_length=200)
    timezone: str = Field("UTC", max_length=64, description="An IANA zone.")
    input: dict[str, Any] | None = None


class AppstrateSchedule(Open):
    """A schedule."""

    id: str
    packageId: str  # noqa: N815
    cronExpression: str  # noqa: N815
    enabled: bool
    nextRunAt: str | None  # noqa: N815


_LIST: Final = Answer(
    200, "The schedules.", {"type": "array", "items": {"$ref": "#/components/schemas/AppstrateSchedule"}}
)


def shown(scope: OrgScope, rows: Sequence[StoredSchedule]) -> list[JsonObject]:
    """Schedules as the contract shows them, each with the readiness of its agent."""
    outsides: dict[str, JsonObject] = {}  # what is shown of an agent: whole manifests would be too much
    for row in rows:
        if row.agent_id not in outsides:
            manifest = _manifest(scope, row)
            outsides[row.agent_id] = {"name": manifest.get("name"), "readiness": readiness_of(manifest)}
    return [schedule_json(row, outsides[row.agent_id]) for row in rows]


def _manifest(scope: OrgScope, row: StoredSchedule) -> JsonObject:
    try:
        return agents.resolve(scope, row.agent_id).manifest
    except NotFound:  # deleted since
        return {}


def readiness_of(manifest: Mapping[str, Any]) -> JsonObject:
    """Which providers the agent lacks: all it names, as this server has none."""
    missing = readiness.missing(manifest, "providers")
    status = "not_ready" if missing else "ready"
    providers = {"totalProviders": len(missing), "connectedProviders": 0, "missingProviders": missing}
    return {"status": status} | providers


def schedule_json(row: StoredSchedule, agent: Mapping[str, Any]) -> JsonObject:
    """A schedule as the contract shows it. `agent` gives its `name` and `readiness`."""
    active = row.state is ScheduleState.ACTIVE
    return {
        "id": schedule_id(row.id),
        "packageId": row.run.get("agent") or agent["name"],
        "connectionProfileId": (row.meta or {}).get("connectionProfileId"),
        "orgId": row.org_id,
        "name": row.name,
        "enabled": active,
        "cronExpression": row.spec.get("expression") or str(row.spec.get("text") or row.spec.get("seconds")),
        "timezone": row.timezone,
        "input": (row.run.get("request") or {}).get("args"),
        "lastRunAt": when(row.last_due_at) if row.fired else None,
        "nextRunAt": when(row.next_due_at) if active else None,
        "createdAt": when(row.created_at),
        "updatedAt": when(row.updated_at),
        "profileName": None,
        "profileType": None,
        "profileOwnerName": None,
        "readiness": agent["readiness"],
    }


def own_id(call: Call) -> str:
    """The schedule the path names; `NotFound`."""
    bare = call.params["schedule_id"].removeprefix("sched_")
    if not is_uuid(bare):
        raise NotFound("There is no such schedule.", field="id")
    return bare.lower()


@routes.get("/schedules", "schedules:read", answers=[_LIST])
async def list_all_schedules(call: Call) -> Response:
    """List the organisation's schedules, newest first.

    Behind 8 MB the large ones are shown without their input; GET /schedules/{schedule_id} shows it.
    """
    return reply(await call.read(_every, None))


@routes.get("/agents/{scope}/{name}/schedules", "schedules:read", answers=[_LIST])
async def list_agent_schedules(call: Call) -> Response:
    """List an agent's schedules, newest first."""

    def read(scope: OrgScope) -> list[JsonObject]:
        return _every(scope, drafts.live(scope, package_of(call)).agent.id)

    return reply(await call.read(read))


def _every(scope: OrgScope, agent_id: str | None) -> list[JsonObject]:
    every = shown(scope, schedules.outline(scope, agent_id))
    return fitted(every, {"input": None, "readiness": {}})


@routes.post(
    "/agents/{scope}/{name}/schedules",
    "schedules:write",
    limit=10,
    body=AppstrateScheduleBody,
    answers=[Answer(201, "The schedule.", AppstrateSchedule)],
    errors=(403, 409),
)
async def create_agent_schedule(call: Call) -> Response:
    """Make a schedule. Its maker must be able to run the agent."""
    require(call.principal, PERMISSION)
    agent = await call.read(drafts.live, package_of(call))
    body = await call.json(AppstrateScheduleBody)
    if inputs.file_fields(agent.manifest):
        raise InvalidRequest("Agents that take files cannot be scheduled.", field="input")
    meta = {"connectionProfileId": body.connectionProfileId}
    wanted = Wanted(body.cronExpression, body.timezone, body.name, meta=meta)
    request = RunRequest(args=await call.work_on_body(inputs.judged, body.input, agent.manifest))
    new = await call.work_on_body(_new, call, wanted, request, agent)
    made = await call.state.write(service.create, new, call.actor)
    outside = {"name": agent.ref.name, "readiness": readiness_of(agent.manifest)}
    return reply(schedule_json(made, outside), 201)


def _new(call: Call, wanted: Wanted, request: RunRequest, agent: AgentRecord) -> NewSchedule:
    who, now = call.principal, call.state.now()
    caller = Caller(who.org_id, who.actor, APPSTRATE.name, who.key_id, end_user(call))
    check_cron(wanted, now)
    return service.prepare(wanted, request, unjudged(agent), caller, call.state.rules, now=now)


def check_cron(wanted: Wanted, now: float) -> None:
    """Only cron lines are taken; `InvalidRequest` with the contract's field."""
    try:
        times = new_schedule.judge(wanted, now).times
    except ScheduleError as error:
        field = _FIELDS.get(error.field or "", error.field)
        raise InvalidRequest(error.message, code=error.code, field=field) from None
    if not isinstance(times, CronSchedule):
        raise InvalidRequest("cronExpression is a cron line of five fields.", field="cronExpression")


@routes.get(
    "/schedules/{schedule_id}",
    "schedules:read",
    answers=[Answer(200, "The schedule.", AppstrateSchedule)],
)
async def read_schedule(call: Call) -> Response:
    """Read a schedule."""
    id_ = own_id(call)
    return reply(
        await call.state.preview(
            lambda tx: shown(tx.scope(call.org_id), [service.get(tx, call.org_id, id_)])[0]
        )
    )


@routes.put(
    "/schedules/{schedule_id}",
    "schedules:write",
    body=AppstrateScheduleChange,
    answers=[Answer(200, "As it is now.", AppstrateSchedule)],
    errors=(409,),
)
async def replace_schedule(call: Call) -> Response:
    """Change a schedule; fields left out stay."""
    body = await call.json(AppstrateScheduleChange)
    given = body.model_dump(exclude_unset=True)
    changed = await call.write(_change, own_id(call), given, call.state.rules, call.actor)
    return reply(changed)


def _change(tx: Tx, org_id: str, id_: str, given: dict[str, Any], rules: RunRules, by: str) -> dict[str, Any]:
    old = service.get(tx, org_id, id_)
    changes: dict[str, Any] = {name: given[name] for name in ("name", "timezone") if name in given}
    if "cronExpression" in given:
        changes["schedule"] = given["cronExpression"]
    if {"schedule", "timezone"} & changes.keys():
        line = changes.get("schedule", old.spec.get("expression"))
        check_cron(Wanted(line, changes.get("timezone", old.timezone)), tx.now)
    if "connectionProfileId" in given:
        changes["meta"] = (old.meta or {}) | {"connectionProfileId": given["connectionProfileId"]}
    agent = drafts.live(tx.scope(org_id), str(old.run.get("agent"))) if "input" in given else None
    request = None if agent is None else _request(agent, old, given["input"])
    if changes or request is not None:
        judged_by = None if agent is None else unjudged(agent)
        service.update(tx, org_id, id_, changes, request, rules, by, judged_by)
    if given.get("enabled") is True:
        service.resume(tx, org_id, id_, by)
    elif given.get("enabled") is False:
        service.pause(tx, org_id, id_, "disabled", by)
    return shown(tx.scope(org_id), [service.get(tx, org_id, id_)])[0]


def _request(agent: AgentRecord, old: StoredSchedule, given: Any) -> RunRequest:
    stored = RunRequest.model_validate(old.run.get("request") or {})
    return stored.model_copy(update={"args": inputs.judged(given, agent.manifest)})


@routes.delete("/schedules/{schedule_id}", "schedules:delete", answers=[Answer(200, "It is deleted.", Done)])
async def remove_schedule(call: Call) -> Response:
    """Delete a schedule; its runs stay."""
    await call.write(service.remove, own_id(call), call.actor)
    return reply({"ok": True})


@routes.get(
    "/schedules/{schedule_id}/runs",
    "runs:read",
    query=Range,
    answers=[Answer(200, "Its runs, newest first.", RunPage)],
)
async def list_schedule_runs(call: Call) -> Response:
    """List the runs a schedule made."""
    id_ = own_id(call)
    await call.state.preview(service.get, call.org_id, id_)
    return await listed(call, Filter(schedule_id=id_), 20)
