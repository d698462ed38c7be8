"""Agents: list, read, make and change drafts, publish (nanonets' fourteen endpoints)."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.access.auth import Principal, manifest_for
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.paths import under
from runyard_api.native import schemas
from runyard_api.native.front import BASE, NativeRoutes, Paging, listing, page, when
from runyard_common.agents.queries import agent_versions
from runyard_common.agents.queries.agent_versions import ListedVersion
from runyard_common.agents.service import agents as publishing
from runyard_common.agents.service import drafts, manifests
from runyard_common.agents.service.drafts import DraftRequest
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values import ids
from runyard_common.values.errors import InvalidRequest, NotFound, RunyardError
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("agents")

StatusName = Literal["draft", "published", "archived"]
_STATUSES: Final = ("draft", "published", "archived")


class AgentBrief(schemas.Shape):
    """One version of an agent."""

    id: str = Field(description="Of this version.")
    agent_group_id: str = Field(description="Of the agent, in any version.")
    version_number: int
    version: str
    status: StatusName
    name: str
    full_name: str
    is_active: bool
    created_at: str
    updated_at: str


class AgentView(AgentBrief):
    """One version of an agent: the organisation's own whole, ******** for its credentials; of what the operator
    publishes for all organisations its name, version, description and schemas."""

    config: dict[str, Any]
    manifest: dict[str, Any]


class AgentPage(schemas.Page):
    """A page of agents."""

    data: list[AgentBrief]  # type: ignore[assignment]


class VersionList(schemas.Shape):
    """An agent's versions, newest first."""

    data: list[AgentBrief]


def agent_brief(row: ListedVersion) -> JsonObject:
    manifest = row.manifest or {}
    return {
        "id": row.id,
        "agent_group_id": row.agent_id,
        "version_number": row.number,
        "version": row.version,
        "status": row.status,
        "name": manifest.get("display_name") or row.name.removeprefix("@default/"),
        "full_name": row.name,
        "description": row.description,
        "kind": row.kind,
        "is_active": row.is_active,
        "is_current": row.current_id == row.id,
        "yanked": row.yanked,
        "shared": row.shared,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
    }


def agent_json(row: ListedVersion, who: Principal) -> JsonObject:
    """A version as its reader may see it: see `manifests.shown`."""
    manifest = manifest_for(who, manifests.shown(row.org_id, row.manifest, who.org_id))
    config = dict(manifest.get("config") or {})
    if "system_prompt" not in config and manifest.get("instructions"):
        config["system_prompt"] = manifest["instructions"]
    return agent_brief(row) | {"config": config, "manifest": manifest}


def refused(missing: NotFound, named: str) -> RunyardError:
    """The refusal of a path that names no agent: text that cannot be an agent's id or name is a bad request
    (nanonets §3: a bad UUID is 400), and what could be one but is none is not found."""
    could_be = ids.is_uuid(named) or ids.is_agent_name(named) or ids.normalise(named) == named
    if missing.code != "agent_not_found" or could_be:
        return missing
    return InvalidRequest(
        "An agent is named by its UUID, as @scope/name, or by its name in lower case with underscores.",
        code="invalid_id",
        field="agent",
    )


async def version_row(call: Call) -> ListedVersion:
    """The version the path names: by its id, or the current one of the agent it names; `NotFound`."""
    named = call.params["agent"]

    def look(scope: OrgScope) -> ListedVersion | None:
        return agent_versions.get(scope, publishing.resolve(scope, named).version.id)

    try:
        found = await call.read(look)
    except NotFound as missing:
        raise refused(missing, named) from None
    if found is None:
        raise NotFound("There is no such agent.", code="agent_not_found", field="agent")
    return found


class AgentListParameters(Paging):
    """Which agents."""

    q: str | None = Field(None, max_length=200, description="Part of the name, in any case.")
    status: str | None = Field(
        None,
        max_length=100,
        description="Comma-separated; by default all but archived.",
        json_schema_extra=listing(_STATUSES),
    )


@routes.get(
    "/agents",
    "agents:read",
    query=AgentListParameters,
    answers=[Answer(200, "A page of agents.", AgentPage)],
)
async def list_agents(call: Call) -> Response:
    """List agents, newest first: their published versions and drafts."""
    given = call.query(AgentListParameters)
    statuses = (
        [s.strip() for s in given.status.split(",")] if given.status is not None else ["draft", "published"]
    )
    if not set(statuses) <= set(_STATUSES):
        raise InvalidRequest(
            f"status lists some of: {', '.join(_STATUSES)}.", code="invalid_field", field="status"
        )
    rows = await call.read(agent_versions.page, statuses, given.limit + 1, given.before, given.q)
    return reply(page([agent_brief(row) for row in rows], given.limit, [row.id for row in rows], rows.more))


class AgentBody(Strict):
    """An agent to make, or what to change of one."""

    name: str | None = Field(None, min_length=1, max_length=200)
    system_prompt: str | None = Field(None, max_length=200_000, description="Stored as config.system_prompt.")
    config: dict[str, Any] | None = Field(None, description="Replaces the whole config.")
    is_active: bool | None = None

    @property
    def request(self) -> DraftRequest:
        return DraftRequest(self.name, self.system_prompt, self.config, self.is_active)


@routes.post(
    "/agents",
    "agents:write",
    body=AgentBody,
    body_optional=True,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The agent, with a draft.", AgentView, headers=("Location",))],
)
async def create_agent(call: Call) -> Response:
    """Make an agent, as a draft that can be run at once."""
    wanted = (await call.optional_json(AgentBody)).request

    return await idempotency.create(
        call,
        lambda tx: _create(tx, call.org_id, wanted, call.actor, call.state.rules.publishing),
        lambda row: reply(
            agent_json(row, call.principal), 201, {"location": under(f"{BASE}/agents/{row.id}")}
        ),
    )


def _create(tx: Tx, org_id: str, wanted: DraftRequest, actor: str, rules: PublishRules) -> ListedVersion:
    row = drafts.create(tx, org_id, wanted, actor, rules)
    identity.audit(tx, org_id, actor, "agent.create", row.agent_id, {"name": row.name})
    return row


@routes.get("/agents/{agent:agent}", "agents:read", answers=[Answer(200, "The agent.", AgentView)])
async def get_agent(call: Call) -> Response:
    """Read an agent, or one version of it."""
    return reply(agent_json(await version_row(call), call.principal))


@routes.patch(
    "/agents/{agent:agent}",
    "agents:write",
    body=AgentBody,
    answers=[Answer(200, "The agent; its draft, when what runs was changed.", AgentView)],
    errors=(403, 409),
)
async def change_agent(call: Call) -> Response:
    """Change an agent.

    A draft is changed in place. What is published is immutable: a change to its config begins the next
    draft, which goes live when it is published. is_active counts at once.
    """
    wanted = (await call.json(AgentBody)).request
    version_id = (await version_row(call)).id
    rules = call.state.rules.publishing
    row = await call.write(_change, version_id, wanted, call.actor, rules)
    return reply(agent_json(row, call.principal))


def _change(
    tx: Tx, org_id: str, version_id: str, wanted: DraftRequest, actor: str, rules: PublishRules
) -> ListedVersion:
    row = drafts.change(tx, org_id, version_id, wanted, rules)
    identity.audit(tx, org_id, actor, "agent.change", row.agent_id, {"version": row.id})
    return row


@routes.delete(
    "/agents/{agent:agent}",
    "agents:delete",
    answers=[Answer(204, "The agent and its versions are gone; its tasks stay.")],
    errors=(403, 409),
)
async def delete_agent(call: Call) -> Response:
    """Delete an agent with all its versions."""
    version_id = (await version_row(call)).id
    await call.write(_remove, version_id, call.actor)
    return Response(status_code=204)


def _remove(tx: Tx, org_id: str, version_id: str, actor: str) -> None:
    agent_id = drafts.remove(tx, org_id, version_id)
    identity.audit(tx, org_id, actor, "agent.delete", agent_id)


@routes.get(
    "/agents/{agent:agent}/versions",
    "agents:read",
    answers=[Answer(200, "Its versions, newest first.", VersionList)],
)
async def list_versions(call: Call) -> Response:
    """List an agent's versions, newest first."""
    row = await version_row(call)
    rows = await call.read(agent_versions.of_agent, row.agent_id)
    return reply({"data": [agent_brief(version) for version in rows]})


@routes.post(
    "/agents/{agent:agent}/versions/publish",
    "agents:write",
    answers=[Answer(200, "The published version.", AgentView)],
    errors=(403, 409),
)
async def publish_draft(call: Call) -> Response:
    """Publish an agent's draft; 409 no_draft when nothing was changed since the last time."""
    version_id = (await version_row(call)).id
    rules = call.state.rules.publishing
    row = await call.write(_publish, version_id, call.actor, rules)
    return reply(agent_json(row, call.principal))


def _publish(tx: Tx, org_id: str, version_id: str, actor: str, rules: PublishRules) -> ListedVersion:
    row = drafts.publish(tx, org_id, version_id, rules)
    identity.audit(tx, org_id, actor, "agent.publish", row.agent_id, {"version": row.version})
    return row
