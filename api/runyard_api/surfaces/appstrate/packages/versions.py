"""Versions of packages: publish, list, read, yank, restore (contract, section 14)."""

from __future__ import annotations

import base64
from typing import Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import manifest_for
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, when
from runyard_api.surfaces.appstrate.packages import drafts as service
from runyard_api.surfaces.appstrate.packages.manifests import prompt, theirs
from runyard_api.surfaces.appstrate.packages.packages import PackageSaved
from runyard_api.surfaces.appstrate.runs.start import package_of
from runyard_api.surfaces.appstrate.schemas import Open
from runyard_common.agents.queries.agents import VersionOutline
from runyard_common.agents.service import manifests
from runyard_common.values.json_text import JsonObject

routes = AppstrateRoutes("appstrate packages")

_VERSIONS: Final = "/packages/agents/{scope}/{name}/versions"
_VERSION: Final = _VERSIONS + "/{version}"


class PackageVersionBody(Tolerant):
    """Which number to publish under."""

    version: str | None = Field(None, max_length=64, description="By default the manifest's.")


class PackageVersion(Open):
    """A published version."""

    id: str
    version: str
    integrity: str
    artifactSize: int  # noqa: N815
    yanked: bool
    createdAt: str  # noqa: N815


class PackageVersionList(Open):
    """The published versions."""

    versions: list[PackageVersion]


class PackageVersionsInfo(Open):
    """The versions in short."""

    latestVersion: str | None  # noqa: N815
    draftVersion: str | None  # noqa: N815
    hasUnpublishedChanges: bool  # noqa: N815
    versionCount: int  # noqa: N815
    tags: dict[str, str]


def version_json(row: VersionOutline) -> JsonObject:
    digest = base64.b64encode(bytes.fromhex(row.digest)).decode()
    return {
        "id": row.id,
        "version": row.version,
        "integrity": f"sha256-{digest}",
        "artifactSize": row.size,
        "yanked": row.yanked,
        "createdAt": when(row.created_at),
    }


@routes.get(_VERSIONS, "agents:read", answers=[Answer(200, "Newest first.", PackageVersionList)])
async def list_package_versions(call: Call) -> Response:
    """List the published versions."""
    found = await call.read(service.versions, package_of(call))
    return reply({"versions": [version_json(row) for row in found]})


@routes.post(
    _VERSIONS,
    "agents:write",
    body=PackageVersionBody,
    body_optional=True,
    answers=[Answer(201, "It is published.", PackageVersion)],
    errors=(403, 409),
)
async def create_package_version(call: Call) -> Response:
    """Publish the draft as a version, which `latest` then means. Refused (409) while runs are under way."""
    body = await call.optional_json(PackageVersionBody)
    made = await call.write(
        service.create_version, package_of(call), body.version, call.actor, call.state.rules.publishing
    )
    return reply(version_json(made), 201)


@routes.get(_VERSIONS + "/info", "agents:read", answers=[Answer(200, "In short.", PackageVersionsInfo)])
async def package_version_info(call: Call) -> Response:
    """Read the latest version, the tags, and whether the draft differs from it."""
    info = await call.read(service.info, package_of(call))
    return reply(
        {
            "latestVersion": info.latest,
            "draftVersion": info.draft,
            "hasUnpublishedChanges": info.draft is not None,
            "versionCount": info.count,
            "tags": info.tags,
        }
    )


@routes.get(_VERSION, "agents:read", answers=[Answer(200, "The version, whole.", PackageVersion)])
async def get_package_version(call: Call) -> Response:
    """Read a version: an exact one, a tag or a range."""
    found = await call.read(service.version, package_of(call), call.params["version"])
    manifest = manifest_for(call.principal, manifests.shown(found.org_id, found.manifest, call.org_id))
    return reply(version_json(found) | {"manifest": theirs(manifest), "content": prompt(manifest)})


@routes.delete(_VERSION, "agents:delete", answers=[Answer(204, "It is yanked.")], errors=(403, 409))
async def yank_package_version(call: Call) -> Response:
    """Yank a version: tags and ranges no longer find it, its exact number does."""
    await call.write(service.yank, package_of(call), call.params["version"], call.actor)
    return Response(status_code=204)


@routes.post(
    _VERSION + "/restore",
    "agents:write",
    answers=[Answer(200, "It is the draft now.", PackageSaved)],
    errors=(403, 409),
)
async def restore_package_version(call: Call) -> Response:
    """Make a version's content the draft."""
    restored = await call.write(
        service.restore, package_of(call), call.params["version"], call.actor, call.state.rules.publishing
    )
    lock = service.lock_version(restored.agent)
    return reply({"packageId": restored.agent.name, "lockVersion": lock, "message": "Version restored"})
