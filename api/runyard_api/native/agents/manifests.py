"""Publish manifests, and steer which version of an agent runs: tags and yanking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http import request_body, yaml_body
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.paths import under
from runyard_api.native import schemas
from runyard_api.native.agents.agents import AgentView, agent_json, version_row
from runyard_api.native.front import BASE, NativeRoutes
from runyard_common.agents.queries import agent_versions, agents
from runyard_common.agents.queries.agent_versions import ListedVersion
from runyard_common.agents.rules import manifests
from runyard_common.agents.rules.manifests import Manifest
from runyard_common.agents.service import agents as publishing
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.service import caps
from runyard_common.runs.rules.run_request import Strict
from runyard_common.schemas import checks as json_schemas
from runyard_common.schemas import outputs
from runyard_common.values.errors import Conflict, Forbidden, InvalidRequest, NotFound

routes = NativeRoutes("agents")


@routes.post(
    "/agents/manifests",
    "agents:write",
    body=Manifest,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The version, published and current.", AgentView, headers=("Location",))],
    errors=(403,),
)
async def publish_manifest(call: Call) -> Response:
    """Publish a manifest (JSON, or YAML as application/yaml) as an immutable version.

    The same content again changes nothing; other content under a published version answers 409
    version_exists. Credentials are kept encrypted; ******** in a manifest that was read means: as before. Registered
    tools that are not open to the organisation answer 403 tool_not_open.
    """
    manifest = manifests.parse(await _document(call))
    if manifest.input is not None and manifest.input.schema_ is not None:
        json_schemas.check_schema(manifest.input.schema_, field="input.schema")
    if manifest.output is not None and manifest.output.schema_:
        outputs.from_schema(manifest.output.schema_, field="output.schema")
    if manifest.kind != "declared":
        raise InvalidRequest(
            "Agents that are code are published by the workers that have them.",
            code="invalid_manifest",
            field="kind",
        )

    return await idempotency.create(
        call,
        lambda tx: _publish(tx, call.org_id, manifest, call.actor, call.state.rules.publishing),
        lambda row: reply(
            agent_json(row, call.principal), 201, {"location": under(f"{BASE}/agents/{row.id}")}
        ),
    )


async def _document(call: Call) -> dict[str, Any]:
    if request_body.media_type(call.headers) in yaml_body.MEDIA_TYPES:
        found = await call.state.costly.do(call.org_id, yaml_body.parse, await call.raw())
    else:
        request_body.check_json_type(call.headers)
        found = await call.parse(await call.raw())
    if not isinstance(found, dict):
        raise request_body.not_an_object()
    return found


def _publish(tx: Tx, org_id: str, manifest: Manifest, actor: str, rules: PublishRules) -> ListedVersion:
    published = publishing.publish(tx, org_id, manifest, actor, rules=rules)
    data = {"name": manifest.name, "version": manifest.version}
    identity.audit(tx, org_id, actor, "agent.publish", published.agent.id, data)
    row = agent_versions.get(tx.scope(org_id), published.version.id)
    assert row is not None
    return row


class Tags(schemas.Shape):
    """An agent's tags: each names a version."""

    data: dict[str, str] = Field(description="Tag → version.")


@routes.get("/agents/{agent:agent}/tags", "agents:read", answers=[Answer(200, "Its tags.", Tags)])
async def list_tags(call: Call) -> Response:
    """List an agent's tags."""
    row = await version_row(call)
    return reply({"data": await call.state.preview(_tags, call.org_id, row.agent_id)})


def _tags(tx: Tx, org_id: str, agent_id: str) -> dict[str, str]:
    versions = {v.id: v.version for v in agents.versions(tx.conn, agent_id)}
    return {tag: versions[id_] for tag, id_ in agents.tags(tx.conn, agent_id).items() if id_ in versions}


class TagBody(Strict):
    """What a tag is to point at."""

    version: str = Field(min_length=1, max_length=64, description="A version, or another tag, or a range.")


@routes.put(
    "/agents/{agent:agent}/tags/{tag}",
    "agents:write",
    body=TagBody,
    answers=[Answer(200, "Its tags.", Tags)],
    errors=(403, 409),
)
async def set_tag(call: Call) -> Response:
    """Point a tag at a version."""
    body = await call.json(TagBody)
    row, tag = await version_row(call), call.params["tag"]
    if not 0 < len(tag) <= 64 or not tag.replace("-", "").replace("_", "").isalnum() or tag[0].isdigit():
        raise InvalidRequest("A tag is a word, not a version.", code="invalid_tag", field="tag")
    tags = await call.write(_set_tag, row, tag, body.version, call.actor)
    return reply({"data": tags})


def _set_tag(tx: Tx, org_id: str, row: ListedVersion, tag: str, version: str, actor: str) -> dict[str, str]:
    _refuse_shared(org_id, row)
    chosen = publishing.resolve(tx.scope(org_id), row.agent_id, version)
    if tag not in agents.tags(tx.conn, row.agent_id):
        caps.check(tx, org_id, "tags", of=row.agent_id)
    agents.set_tag(tx, row.agent_id, tag, chosen.version.id)
    data = {"tag": tag, "version": chosen.version.version}
    identity.audit(tx, org_id, actor, "agent.tag", row.agent_id, data)
    return _tags(tx, org_id, row.agent_id)


@routes.delete(
    "/agents/{agent:agent}/tags/{tag}",
    "agents:write",
    answers=[Answer(204, "The tag is gone.")],
    errors=(403, 409),
)
async def delete_tag(call: Call) -> Response:
    """Remove a tag."""
    row = await version_row(call)
    await call.write(_drop_tag, row, call.params["tag"], call.actor)
    return Response(status_code=204)


def _drop_tag(tx: Tx, org_id: str, row: ListedVersion, tag: str, actor: str) -> None:
    _refuse_shared(org_id, row)
    if tag == "latest":
        raise Conflict("The tag latest stays.", code="tag_needed", field="tag")
    if not agents.drop_tag(tx, row.agent_id, tag):
        raise NotFound("There is no such tag.", code="tag_not_found", field="tag")
    identity.audit(tx, org_id, actor, "agent.untag", row.agent_id, {"tag": tag})


class VersionChange(Strict):
    """What to change of a version."""

    yanked: bool = Field(description="A yanked version runs only where it is named exactly.")


@routes.patch(
    "/agents/{agent:agent}/versions/{version}",
    "agents:write",
    body=VersionChange,
    answers=[Answer(200, "The version.", AgentView)],
    errors=(403,),
)
async def change_version(call: Call) -> Response:
    """Yank a version, or take that back."""
    body = await call.json(VersionChange)
    row = await version_row(call)
    version, actor = call.params["version"], call.actor
    changed = await call.write(_yank, row, version, body.yanked, actor)
    return reply(agent_json(changed, call.principal))


def _yank(tx: Tx, org_id: str, row: ListedVersion, version: str, yanked: bool, actor: str) -> ListedVersion:
    _refuse_shared(org_id, row)
    named = (v.id for v in agents.versions(tx.conn, row.agent_id) if v.version == version)
    found = agent_versions.get(tx.scope(org_id), next(named, ""))
    if found is None:
        raise NotFound(f"There is no version {version!r}.", code="version_not_found", field="version")
    agents.update_version(tx, found.id, yanked=yanked)
    verb = "agent.yank" if yanked else "agent.restore"
    identity.audit(tx, org_id, actor, verb, row.agent_id, {"version": version})
    return replace(found, yanked=yanked)


def _refuse_shared(org_id: str, row: ListedVersion) -> None:
    if row.org_id != org_id:
        raise Forbidden("The operator publishes this agent for all organisations.", code="agent_shared")
