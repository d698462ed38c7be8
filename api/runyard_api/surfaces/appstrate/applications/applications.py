"""Applications: what an organisation builds; keys and end-users belong to one (contract, section 13)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, when
from runyard_api.surfaces.appstrate.schemas import ListOf, Open
from runyard_common.identity.queries.applications import ApplicationRow
from runyard_common.identity.service import applications as service
from runyard_common.runs.rules.run_request import Metadata
from runyard_common.values.json_text import JsonObject

routes = AppstrateRoutes("appstrate applications")


class ApplicationBody(Tolerant):
    """An application to make."""

    name: str = Field(min_length=1, max_length=100)
    settings: Metadata | None = Field(None, description="At most 16 KB, as JSON.")


class ApplicationChange(Tolerant):
    """What to change."""

    name: str = Field("", min_length=1, max_length=100)
    settings: Metadata | None = Field(None, description="At most 16 KB, as JSON.")


class ApplicationView(Open):
    """An application."""

    id: str
    object: Literal["application"]
    orgId: str  # noqa: N815
    name: str
    isDefault: bool  # noqa: N815
    settings: dict[str, Any]
    createdBy: str | None  # noqa: N815
    createdAt: str  # noqa: N815
    updatedAt: str  # noqa: N815


class ApplicationList(ListOf):
    """Applications."""

    data: list[ApplicationView]


def application_json(row: ApplicationRow) -> JsonObject:
    return {
        "id": row.id,
        "object": "application",
        "orgId": row.org_id,
        "name": row.name,
        "isDefault": row.is_default,
        "settings": row.settings or {},
        "createdBy": (row.created_by or "").partition(":")[2] or None,
        "createdAt": when(row.created_at),
        "updatedAt": when(row.updated_at),
    }


@routes.get("/applications", "applications:read", answers=[Answer(200, "All of them.", ApplicationList)])
async def list_applications(call: Call) -> Response:
    """List the organisation's applications; the default one always exists."""
    found = await call.write(service.every)
    return reply({"object": "list", "data": [application_json(row) for row in found]})


@routes.post(
    "/applications",
    "applications:write",
    body=ApplicationBody,
    answers=[Answer(201, "It is made.", ApplicationView)],
    errors=(409,),
)
async def create_application(call: Call) -> Response:
    """Make an application."""
    body = await call.json(ApplicationBody)
    made = await call.write(service.create, body.name, body.settings, call.actor)
    return reply(application_json(made), 201)


@routes.get(
    "/applications/{application_id}",
    "applications:read",
    answers=[Answer(200, "The application.", ApplicationView)],
)
async def get_application(call: Call) -> Response:
    """Read an application."""
    found = await call.state.preview(service.own, call.org_id, call.params["application_id"])
    return reply(application_json(found))


@routes.patch(
    "/applications/{application_id}",
    "applications:write",
    body=ApplicationChange,
    answers=[Answer(200, "As it is now.", ApplicationView)],
)
async def change_application(call: Call) -> Response:
    """Rename an application, or set its settings."""
    body = await call.json(ApplicationChange)
    values = body.model_dump(exclude_unset=True)
    id_ = call.params["application_id"]
    changed = await call.write(service.change, id_, values, call.actor)
    return reply(application_json(changed))


@routes.delete(
    "/applications/{application_id}",
    "applications:delete",
    answers=[Answer(204, "It is deleted, its keys are revoked.")],
)
async def delete_application(call: Call) -> Response:
    """Delete an application with its end-users; its keys are revoked. The default one stays (400)."""
    id_ = call.params["application_id"]
    for key_hash in await call.write(service.delete, id_, call.actor):
        call.state.keys.forget(key_hash)
    return Response(status_code=204)
