"""POST /api/agents/{scope}/{name}/run: start a run and answer its id (contract, sections 2 to 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import require
from runyard_api.http import request_body
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.submission import prepare, store
from runyard_api.surfaces.appstrate import idempotency
from runyard_api.surfaces.appstrate.front import APPSTRATE, AppstrateRoutes, end_user, parameter
from runyard_api.surfaces.appstrate.packages import drafts
from runyard_api.surfaces.appstrate.runs import form, inputs, readiness
from runyard_api.surfaces.appstrate.surface import run_id
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.agents.service.model_choice import model_name
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.values.errors import InvalidRequest
from runyard_common.values.models import Model

routes = AppstrateRoutes("appstrate runs")

PERMISSION: Final = "agents:run"
_FORM: Final = {
    "type": "object",
    "properties": {"input": {"type": "string"}, "file": {"type": "string", "format": "binary"}},
    "additionalProperties": True,
    "description": "Files stand under the names of the agent's file fields; input is JSON text.",
}


class RunQuery(Model):
    """Which version runs."""

    version: str | None = Field(
        None, description="Exact version, dist-tag, or semver range; default: the draft."
    )


class RunBody(Tolerant):
    """A run. Unknown fields are tolerated."""

    input: dict[str, Any] | None = Field(None, description="Checked against the agent's input schema.")
    modelId: str | None = Field(None, max_length=128, description="provider:name; beats the agent's.")  # noqa: N815
    config: dict[str, Any] | None = Field(
        None, description="Values of the agent's config.schema, for this run; any others are ignored."
    )
    proxyId: str | None = Field(None, max_length=128, description="Accepted; this server has no proxies.")  # noqa: N815


class RunStarted(Model):
    """A run that is stored."""

    runId: str  # noqa: N815


@routes.post(
    "/agents/{scope}/{name}/run",
    PERMISSION,
    late=True,
    limit=20,
    once=True,
    query=RunQuery,
    body=RunBody,
    body_optional=True,
    form=_FORM,
    answers=[Answer(200, "The run is stored.", RunStarted)],
    errors=(402, 403, 408),
)
async def start_run(call: Call) -> Response:
    """Execute an agent.

    Fire and forget: the run is stored when its id is answered. At most 20 a minute for each key and agent.
    """
    name = package_of(call)
    agent = await call.read(drafts.live, name)
    require(call.principal, PERMISSION)
    version = parameter(call, "version") or None
    if version is not None:
        agent = await call.read(drafts.chosen, name, version)
    model: str | None = None
    config: dict[str, Any] = {}
    files: list[dict[str, Any]] = []
    if request_body.media_type(call.headers) == "multipart/form-data":
        args, files = await form.read(call, agent.manifest)
    else:
        form.refuse_json(agent.manifest)
        given = await _lenient(call)
        args = await call.work_on_body(inputs.judged, given.get("input"), agent.manifest)
        model = _model_id(given)
        config = inputs.configuration(given.get("config"), agent.manifest)
    readiness.check(agent.kind, inputs.configured(agent.manifest, config))
    _check_model(call, agent, model)
    request = RunRequest(args=args, model=model, metadata={"config": config} if config else None)
    unread, reserved, on_behalf = unjudged(agent), idempotency.reserved(call), end_user(call)
    spec = await prepare(call, APPSTRATE.name, request, unread, reserved, end_user_id=on_behalf, files=files)
    await store(call, spec)
    return reply({"runId": run_id(spec.task_id)})


def package_of(call: Call) -> str:
    """``@scope/name`` from the path."""
    return f"{call.params['scope']}/{call.params['name']}"


async def _lenient(call: Call) -> dict[str, Any]:
    """The JSON body; an unreadable or missing one counts as an empty object (section 3).

    JSON that is no object is refused: what it means would be lost.
    """
    raw = await call.raw()
    try:
        given = await call.parse(raw) if raw else {}
    except InvalidRequest as error:
        if error.code == "bad_json":
            return {}
        raise
    if not isinstance(given, dict):
        raise request_body.not_an_object()
    return given


def _model_id(given: Mapping[str, Any]) -> str | None:
    model = given.get("modelId")
    if model is not None and (not isinstance(model, str) or not 0 < len(model) <= 128):
        raise InvalidRequest("modelId is a model's name, provider:name.", field="modelId")
    return model


def _check_model(call: Call, agent: AgentRecord, model: str | None) -> None:
    """`InvalidRequest` model_not_configured where a declared agent has no model to ask."""
    found = model_name(call.state.settings, agent.manifest, {"model": model})
    if found is None and agent.kind == "declared":
        raise InvalidRequest(
            "No model is configured for this agent.", code="model_not_configured", field="modelId"
        )


def unjudged(agent: AgentRecord) -> AgentRecord:
    """The agent without its input schema: the input was judged by the contract's own rules."""
    manifest = {name: value for name, value in agent.manifest.items() if name != "input"}
    return AgentRecord(agent.agent, replace(agent.version, manifest=manifest))
