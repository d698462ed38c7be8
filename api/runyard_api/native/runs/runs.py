"""Run an agent: JSON or multipart in, 202 and a task id out, the run stored before the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from runyard_api.http import request_body, uploads
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.paths import under
from runyard_api.native import schemas
from runyard_api.native.agents.agents import refused
from runyard_api.native.front import BASE, NATIVE, NativeRoutes, Parameters, when
from runyard_api.native.runs import form_fields
from runyard_api.native.runs.task_view import hint, links, poll_after_ms, queue
from runyard_api.native.schedules.schedule_view import schedule_brief
from runyard_api.submission import answered, prepare
from runyard_api.task_snapshot import snapshot
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.specs import AcceptedRun
from runyard_common.runs.service import runs, submissions
from runyard_common.values.errors import NotFound, UnsupportedMedia

routes = NativeRoutes("runs")

_FIRST_POLL_MS: Final = 500


class RunParameters(Parameters):
    """How to run."""

    #: The older form of /dry-run. Documents leave it out: with it a run would have two answers, and generated
    #: clients could not know that theirs has a task_id.
    dry_run: SkipJsonSchema[bool] = False


_ERRORS: Final = (400, 402, 403, 404, 408, 409, 413, 415, 422, 429, 503)
FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What to do; optional when a file is attached."},
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "file": {"type": "string", "format": "binary", "description": "One file, under its older name."},
        "output_config": {"type": "string", "description": "A JSON document: OutputConfig."},
    },
    "additionalProperties": True,
    "description": "The JSON body's other fields may come as text fields: texts, numbers and true or false as they "
    "are, the URL of a callback too, lists and objects as JSON. Unknown fields are tolerated.",
}


@routes.post(
    "/agents/{agent:agent}/run",
    "runs:create",
    query=RunParameters,
    body=RunRequest,
    body_optional=True,
    form=FORM,
    headers=("Idempotency-Key",),
    answers=(Answer(202, "The run is stored.", schemas.Accepted, headers=("Location",)),),
    errors=_ERRORS,
    checks_memory=True,
)
async def run(call: Call) -> Response:
    """Run an agent.

    The agent is named by its id, the id of one of its versions, @scope/name, or its normalised name. The run
    is stored when 202 is answered, and survives the death of any process. With an Idempotency-Key the same
    request may be sent again: it makes one run. POST …/dry-run shows what would happen.
    """
    return await _answer(call, call.query(RunParameters).dry_run)


@routes.post(
    "/agents/{agent:agent}/dry-run",
    "runs:create",
    body=RunRequest,
    body_optional=True,
    answers=(Answer(200, "What would happen.", schemas.RunPreview),),
    errors=_ERRORS,
)
async def dry_run(call: Call) -> Response:
    """Show what a run would come to, without storing it.

    It takes the JSON body of POST …/run and refuses what that refuses. The answer names each limit that the run counts
    against, how full it is, and whether the run would start, queue or be rejected.
    """
    return await _answer(call, True)


async def _answer(call: Call, dry_run: bool) -> Response:
    kind = request_body.media_type(call.headers)
    if kind == "multipart/form-data":
        return await _run_form(call, dry_run)
    raw = await call.raw()
    if kind == "" and raw:
        raise UnsupportedMedia(
            "Say what the body is: Content-Type: application/json, or multipart/form-data.",
            field="Content-Type",
        )
    request = await call.json(RunRequest) if kind else RunRequest()
    identity = hashlib.sha256(raw).digest()
    return await _run(call, request, (), dry_run, identity)


async def _run_form(call: Call, dry_run: bool) -> Response:
    agent = await _agent(call, None)  # an unknown agent is refused before files are stored
    form = await uploads.read_form(call)
    try:
        request = request_body.model(RunRequest, await form_fields.read(form.fields, call.parse))
        attached = [(name, upload) for name, upload in form.files if upload.filename or upload.size]
        await call.work_on_body(runs.check_input, request, agent.manifest, bool(attached))
        stored = await uploads.store(call, attached)
    finally:
        await form.close()
    identity = hashlib.sha256(
        repr((sorted(form.fields.items()), [(f["field"], f["name"], f["sha256"]) for f in stored])).encode()
    ).digest()
    return await _run(call, request, stored, dry_run, identity)


async def _run(
    call: Call, request: RunRequest, files: Sequence[dict[str, Any]], dry_run: bool, identity: bytes
) -> Response:
    agent = await _agent(call, request.version)
    prepared = partial(prepare, call, NATIVE.name, request, agent, files=files)
    if dry_run:
        preview = await call.state.preview(submissions.preview, await prepared(None))
        return reply(preview | _named(agent))
    return await answered(call, identity, prepared, partial(_accepted, call, agent, request))


async def _agent(call: Call, version: str | None) -> AgentRecord:
    try:
        return await call.state.agents.find(call.org_id, call.params["agent"], version)
    except NotFound as missing:
        raise refused(missing, call.params["agent"]) from None


def _named(agent: AgentRecord) -> dict[str, Any]:
    ref = agent.ref
    return {"dry_run": True, "agent_id": ref.version_id, "agent": ref.name, "version": ref.version}


async def _accepted(call: Call, agent: AgentRecord, request: RunRequest, accepted: AcceptedRun) -> Response:
    ref = agent.ref
    body: dict[str, Any] = {
        "task_id": accepted.task_id,
        "agent_id": ref.version_id,
        "agent_group_id": ref.agent_id,
        "agent": ref.name,
        "agent_name": ref.name,
        "version": ref.version,
        "status": accepted.status.value,
        "message": hint(accepted.status, accepted.task_id),
        "title": runs.title_of(request.text),
        "session_id": accepted.session_id,
        "front": NATIVE.name,
        "created_at": when(accepted.created_at),
        "poll_after_ms": _FIRST_POLL_MS,
        "links": links(accepted.task_id),
    }
    if accepted.schedules:
        body["schedules"] = [schedule_brief(schedule) for schedule in accepted.schedules]
    if accepted.status is Status.QUEUED:
        found = await snapshot(call.state, call.org_id, accepted.task_id)
        body |= {
            "queue": queue(found) or {"limit": accepted.blocked_by},
            "poll_after_ms": poll_after_ms(found),
        }
    return reply(body, 202, {"location": under(f"{BASE}/tasks/{accepted.task_id}")})
