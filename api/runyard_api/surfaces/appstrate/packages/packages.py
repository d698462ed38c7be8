"""Agents as packages: list, make, read, change, delete (contract, section 14)."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import manifest_for
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, fitted, when
from runyard_api.surfaces.appstrate.packages import drafts as service
from runyard_api.surfaces.appstrate.packages.manifests import ours, prompt, theirs
from runyard_api.surfaces.appstrate.runs.start import package_of
from runyard_api.surfaces.appstrate.schemas import Open
from runyard_common.agents.queries import agents
from runyard_common.agents.queries.agents import AgentWithManifest
from runyard_common.agents.service import manifests
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import ACTIVE
from runyard_common.values.json_text import JsonObject

routes = AppstrateRoutes("appstrate packages")

_PACKAGE: Final = "/packages/agents/{scope}/{name}"


class PackageBody(Tolerant):
    """An agent: its manifest and its prompt."""

    manifest: dict[str, Any]
    content: str = Field(max_length=400_000, description="The prompt.")


class PackageChange(PackageBody):
    """The agent's next draft."""

    lockVersion: int = Field(ge=0, lt=2**31, description="As it was read.")  # noqa: N815


class PackageSaved(Open):
    """It is stored."""

    packageId: str  # noqa: N815
    lockVersion: int  # noqa: N815
    message: str


class PackageView(Open):
    """An agent as it is being written."""

    id: str
    manifest: dict[str, Any]
    content: str
    lockVersion: int  # noqa: N815


class PackageBrief(Open):
    """An agent in a list."""

    id: str
    displayName: str  # noqa: N815
    description: str | None
    source: Literal["system", "local"]
    scope: str
    version: str | None
    type: Literal["agent"]
    keywords: list[str]
    runningRuns: int  # noqa: N815
    dependencies: dict[str, Any]


class PackageList(Open):
    """The agents."""

    agents: list[PackageBrief]


@routes.get("/agents", "agents:read", answers=[Answer(200, "The agents.", PackageList)])
async def list_packages(call: Call) -> Response:
    """List the agents the organisation can run.

    Behind 8 MB the large ones are shown without description, keywords and dependencies.
    """
    return reply({"agents": await call.read(_listed)})


def _listed(scope: OrgScope) -> list[JsonObject]:
    found = [_brief(scope, row) for row in agents.with_manifests(scope, include_inactive=False)]
    return fitted(found, {"dependencies": {}, "keywords": [], "description": ""})


def _brief(scope: OrgScope, row: AgentWithManifest) -> JsonObject:
    manifest = manifests.shown(row.org_id, row.manifest, scope.org_id)
    return {
        "id": row.name,
        "displayName": manifest.get("display_name") or row.name,
        "description": row.description,
        "source": "system" if row.shared else "local",
        "scope": row.name.partition("/")[0],
        "version": manifest.get("version"),
        "type": "agent",
        "keywords": manifest.get("keywords") or [],
        "runningRuns": tasks.count(scope, Filter(agent_id=row.id, statuses=tuple(ACTIVE))),
        "dependencies": manifest.get("dependencies") or {},
    }


@routes.post(
    "/packages/agents",
    "agents:write",
    body=PackageBody,
    answers=[Answer(201, "It is stored, its first version published.", PackageSaved)],
    errors=(403, 409),
)
async def create_package(call: Call) -> Response:
    """Make an agent and publish its first version."""
    body = await call.json(PackageBody)
    made = await call.write(
        service.create, ours(body.manifest, body.content), call.actor, call.state.rules.publishing
    )
    return reply(_saved(made, "Agent created"), 201)


def _saved(record: AgentRecord, message: str) -> dict[str, Any]:
    return {
        "packageId": record.agent.name,
        "lockVersion": service.lock_version(record.agent),
        "message": message,
    }


@routes.get(_PACKAGE, "agents:read", answers=[Answer(200, "The agent.", PackageView)])
async def get_package(call: Call) -> Response:
    """Read an agent as it is being written."""
    found = await call.read(service.live, package_of(call))
    manifest = manifest_for(call.principal, manifests.shown(found.agent.org_id, found.manifest, call.org_id))
    return reply(
        {
            "id": found.agent.name,
            "source": "system" if found.agent.shared else "local",
            "manifest": theirs(manifest),
            "content": prompt(manifest),
            "version": found.version.version,
            "lockVersion": service.lock_version(found.agent),
            "createdAt": when(found.agent.created_at),
            "updatedAt": when(found.agent.updated_at),
        }
    )


@routes.put(
    _PACKAGE,
    "agents:write",
    body=PackageChange,
    answers=[Answer(200, "The draft is stored.", PackageSaved)],
    errors=(403, 409),
)
async def change_package(call: Call) -> Response:
    """Change the draft. Refused (409) when another caller has changed it, or while runs are under way."""
    body = await call.json(PackageChange)
    manifest = ours(body.manifest, body.content)
    changed = await call.write(
        service.change, package_of(call), manifest, body.lockVersion, call.actor, call.state.rules.publishing
    )
    return reply(_saved(changed, "Agent updated"))


@routes.delete(_PACKAGE, "agents:delete", answers=[Answer(204, "It is deleted.")], errors=(403, 409))
async def delete_package(call: Call) -> Response:
    """Delete an agent with its versions; its runs stay."""
    await call.write(service.delete, package_of(call), call.actor)
    return Response(status_code=204)
