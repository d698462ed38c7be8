"""Manage agents: create, list, read, change, delete; available models and usage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from pydantic import ConfigDict, Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer, Routes
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.nugen import live_agents
from runyard_api.surfaces.nugen.agent_view import TEMPERATURE, NugenAgent, agent_json
from runyard_api.surfaces.nugen.front import NUGEN
from runyard_api.surfaces.nugen.models import available, chosen
from runyard_common.agents.queries import agents
from runyard_common.agents.queries.agents import AgentWithManifest
from runyard_common.agents.rules.manifests import Demonstration
from runyard_common.agents.service import agents as publishing
from runyard_common.agents.service import manifests
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.usage import queries as usage
from runyard_common.usage.queries import AgentUsage
from runyard_common.values.errors import NotFound
from runyard_common.values.json_text import JsonObject
from runyard_common.values.models import Model

routes = Routes(NUGEN, "nugen")

_OLDER: Final = "The older spelling of {}."
#: Agents of this scope do the server's own work.
_BUILT_IN: Final = "@runyard/"


class NugenModel(Model):
    """A model that agents may be made for."""

    id: str
    name: str
    base_model: str


class NugenDemonstration(Demonstration):
    """An example exchange. Unknown fields are tolerated."""

    model_config = ConfigDict(extra="ignore")


class NugenCreateBody(Tolerant):
    """An agent to make. Unknown fields are tolerated."""

    agent_name: str = Field(min_length=1, max_length=200)
    agent_description: str = Field(max_length=10_000)
    model: str = Field(description="A model's id, as available_models lists it.")
    temperature: float = Field(TEMPERATURE, strict=True, description="From 0 to 2.")
    uncertainty_threshold: float | None = Field(None, strict=True, description=_OLDER.format("temperature"))
    max_tokens: int | None = Field(None, strict=True)
    max_token: int | None = Field(None, strict=True, description=_OLDER.format("max_tokens"))
    instructions: str | None = Field(None, max_length=200_000)
    demonstrations: list[NugenDemonstration] | None = Field(None, max_length=200)


class NugenChangeBody(Tolerant):
    """What to change of an agent; absent fields stay as they are."""

    agent_name: str | None = Field(None, min_length=1, max_length=200)
    agent_description: str | None = Field(None, max_length=10_000)
    model: str | None = None
    temperature: float | None = Field(None, strict=True, description="From 0 to 2.")
    uncertainty_threshold: float | None = Field(None, strict=True, description=_OLDER.format("temperature"))
    max_tokens: int | None = Field(None, strict=True)
    max_token: int | None = Field(None, strict=True, description=_OLDER.format("max_tokens"))
    instructions: str | None = Field(None, max_length=200_000)
    demonstrations: list[NugenDemonstration] | None = Field(None, max_length=200)


class NugenAgentAnswer(Model):
    """One agent."""

    data: NugenAgent


class NugenAgentList(Model):
    """Agents, newest first."""

    agents: list[NugenAgent]


class NugenDeleted(Model):
    """What was deleted."""

    agent_id: str
    message: str


class NugenUsageStats(Model):
    """How much the organisation's agents have asked of models."""

    total_usage: int = Field(description="Runs that asked a model.")
    total_tokens: int
    average_tokens_per_request: float
    most_used_model: str
    usage_by_model: dict[str, int] = Field(description="Runs by model.")


class NugenUsageAnswer(Model):
    """NugenUsage."""

    data: NugenUsageStats


class ListParameters(Tolerant):
    """Which agents."""

    include_inactive: bool = False


@routes.get(
    "/available_models",
    "agents:read",
    answers=[Answer(200, "The models.", {"type": "array", "items": NugenModel.model_json_schema()})],
)
async def available_models(call: Call) -> Response:
    """List the models that agents may be made for."""
    return reply(await call.state.in_thread(available, call.state.settings))


@routes.post(
    "/create",
    "agents:write",
    body=NugenCreateBody,
    headers=("Idempotency-Key",),
    answers=[Answer(200, "The agent.", NugenAgentAnswer)],
    errors=(400, 408, 409, 413, 415, 422),
)
async def create_agent(call: Call) -> Response:
    """Make an agent, live at once.

    Its name is normalised (lower case, underscores) and must be free.
    """
    given = await call.json(NugenCreateBody, untyped=True)
    values = {"temperature": TEMPERATURE} | await _values(call, given.model_dump(exclude_unset=True))

    who = call.principal
    return await idempotency.create(
        call,
        lambda tx: live_agents.create(
            tx, who.org_id, given.agent_name, values, who.actor, call.state.rules.publishing
        ),
        lambda record: _view(call, record, AgentUsage()),
    )


#: Fields of the wire and the manifest fields they set. Of two spellings the newer counts.
_FIELDS: Final = {
    "agent_name": "name",
    "agent_description": "description",
    "model": "model",
    "uncertainty_threshold": "temperature",
    "temperature": "temperature",
    "max_token": "max_tokens",
    "max_tokens": "max_tokens",
    "instructions": "instructions",
    "demonstrations": "demonstrations",
}
#: null empties these.
_EMPTIED: Final = ("max_token", "max_tokens", "instructions", "demonstrations")


async def _values(call: Call, given: dict[str, Any]) -> dict[str, Any]:
    """The manifest fields that a request sets."""
    values = {
        field: given[name]
        for name, field in _FIELDS.items()
        if name in given and (given[name] is not None or name in _EMPTIED)
    }
    if values.get("demonstrations", ()) is None:
        values["demonstrations"] = []
    if "model" in values:
        values["model"] = await call.state.in_thread(chosen, call.state.settings, values["model"])
    return values


@routes.get(
    "",
    "agents:read",
    query=ListParameters,
    answers=[Answer(200, "The agents.", NugenAgentList)],
    errors=(422,),
)
async def list_agents(call: Call) -> Response:
    """List the agents the organisation may run, newest first.

    Where they hold more than 8 MB together, system_prompt is empty and the fields have their defaults in large ones
    behind that; GET /{agent_id} shows them whole.
    """
    inactive = call.query(ListParameters).include_inactive
    found, used = await call.read(_all, inactive)
    settings = call.state.settings
    return reply({"agents": [agent_json(row, used.get(row.id, AgentUsage()), settings) for row in found]})


def _all(scope: OrgScope, inactive: bool) -> tuple[list[AgentWithManifest], dict[str, AgentUsage]]:
    found = [
        replace(row, manifest=manifests.shown(row.org_id, row.manifest, scope.org_id))
        for row in agents.with_manifests(scope, inactive)
        if not row.name.startswith(_BUILT_IN)
    ]
    return found, usage.of_agents(scope, [row.id for row in found])


@routes.get("/usage", "usage:read", answers=[Answer(200, "The usage.", NugenUsageAnswer)])
async def usage_statistics(call: Call) -> Response:
    """Report how much the organisation's agents have asked of models."""
    return reply({"data": await call.read(_usage)})


def _usage(scope: OrgScope) -> JsonObject:
    models = usage.by_model(scope)
    runs, tokens = usage.runs_with_model(scope), sum(one.tokens for one in models)
    return {
        "total_usage": runs,
        "total_tokens": tokens,
        "average_tokens_per_request": round(tokens / runs, 2) if runs else 0,
        "most_used_model": models[0].model if models else "",
        "usage_by_model": {one.model: one.runs for one in models},
    }


@routes.get(
    "/{agent_id}", "agents:read", answers=[Answer(200, "The agent.", NugenAgentAnswer)], errors=(404,)
)
async def get_agent(call: Call) -> Response:
    """Read an agent. One that is inactive is not found."""
    return await _shown(call, await _found(call))


async def _found(call: Call) -> AgentRecord:
    named = call.params["agent_id"]
    record = await call.read(publishing.resolve, named)
    if not record.is_active:
        raise NotFound("There is no such agent.", code="agent_not_found", field="agent_id")
    return record


async def _shown(call: Call, record: AgentRecord) -> Response:
    agent_id = record.ref.agent_id
    used = await call.read(usage.of_agents, [agent_id])
    return _view(call, record, used.get(agent_id, AgentUsage()))


def _view(call: Call, record: AgentRecord, used: AgentUsage) -> Response:
    manifest = manifests.shown(record.agent.org_id, record.manifest, call.org_id)
    description = manifest.get("description", "")
    row = AgentWithManifest(**rows.values(replace(record.agent, description=description)), manifest=manifest)
    return reply({"data": agent_json(row, used, call.state.settings)})


@routes.patch(
    "/{agent_id}",
    "agents:write",
    body=NugenChangeBody,
    answers=[Answer(200, "The agent.", NugenAgentAnswer)],
    errors=(400, 404, 408, 409, 413, 415, 422),
)
async def change_agent(call: Call) -> Response:
    """Change an agent; the change is live at once, for runs that start after it."""
    given = await call.json(NugenChangeBody, untyped=True)
    agent_id = (await _found(call)).ref.agent_id
    values = await _values(call, given.model_dump(exclude_unset=True))
    who = call.principal
    rules = call.state.rules.publishing
    record = await call.state.write(live_agents.change, who.org_id, agent_id, values, who.actor, rules)
    return await _shown(call, record)


@routes.delete(
    "/{agent_id}",
    "agents:delete",
    answers=[
        Answer(204, "The agent is gone, with its conversations and usage."),
        Answer(200, "The same, to callers whose Accept names application/json.", NugenDeleted),
    ],
    errors=(404, 409),
)
async def delete_agent(call: Call) -> Response:
    """Delete an agent."""
    agent_id = (await _found(call)).ref.agent_id
    who = call.principal
    name = await call.state.write(live_agents.remove, who.org_id, agent_id, who.actor)
    if not call.accepts("application/json"):  # the vendor's notebook takes a 204 alone for a success
        return Response(status_code=204)
    return reply({"agent_id": agent_id, "message": f"The agent {name} was deleted."})
