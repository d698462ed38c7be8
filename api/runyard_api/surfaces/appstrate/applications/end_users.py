"""End-users: on whose behalf an application runs agents (contract, section 13)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.appstrate import idempotency
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, bounded, parameter, when
from runyard_api.surfaces.appstrate.schemas import ListOf, Open
from runyard_common.identity.queries import applications
from runyard_common.identity.queries.applications import EndUserRow
from runyard_common.identity.service import end_users as service
from runyard_common.identity.service.end_users import EndUserRequest
from runyard_common.values.errors import Forbidden, InvalidRequest
from runyard_common.values.json_text import JsonObject
from runyard_common.values.models import Model

routes = AppstrateRoutes("appstrate end-users")

_WRITES, _READS = 60, 300


class EndUserChange(Tolerant):
    """What to set of an end-user; metadata merges, null removes a key."""

    name: str | None = Field(None, max_length=200)
    email: str | None = Field(None, max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")
    externalId: str | None = Field(None, min_length=1, max_length=200)  # noqa: N815
    metadata: dict[str, Any] | None = None


class EndUserBody(EndUserChange):
    """An end-user to make."""

    applicationId: str | None = Field(None, max_length=64, description="By default the key's.")  # noqa: N815


class EndUserQuery(Model):
    """Which end-users."""

    limit: str | None = Field(None, description="1 to 100; default 20.")
    startingAfter: str | None = Field(None, description="Older than this id.")  # noqa: N815
    endingBefore: str | None = Field(None, description="Newer than this id.")  # noqa: N815
    applicationId: str | None = None  # noqa: N815
    externalId: str | None = None  # noqa: N815
    email: str | None = None


class EndUserView(Open):
    """An end-user."""

    id: str
    object: Literal["end_user"]
    applicationId: str  # noqa: N815
    name: str | None
    email: str | None
    externalId: str | None  # noqa: N815
    metadata: dict[str, Any]
    createdAt: str  # noqa: N815
    updatedAt: str  # noqa: N815


class EndUserPage(ListOf):
    """Some end-users, newest first."""

    data: list[EndUserView]
    hasMore: bool  # noqa: N815
    limit: int


def end_user_json(row: EndUserRow) -> JsonObject:
    return {
        "id": row.id,
        "object": "end_user",
        "applicationId": row.application_id,
        "name": row.name,
        "email": row.email,
        "externalId": row.external_id,
        "metadata": row.meta or {},
        "createdAt": when(row.created_at),
        "updatedAt": when(row.updated_at),
    }


def _application(call: Call, wanted: str | None) -> str | None:
    """The application that counts: a key's own; `Forbidden` scope_mismatch for another one."""
    own = call.principal.application_id
    if own is not None and wanted not in (None, own):
        raise Forbidden("This key is of another application.", code="scope_mismatch", field="applicationId")
    return own or wanted


@routes.post(
    "/end-users",
    "end-users:write",
    limit=_WRITES,
    once=True,
    body=EndUserBody,
    answers=[Answer(201, "The end-user.", EndUserView)],
    errors=(403, 404),
)
async def create_end_user(call: Call) -> Response:
    """Make an end-user."""
    body = await call.json(EndUserBody)
    application = _application(call, body.applicationId)
    wanted = EndUserRequest(application, body.name, body.email, body.externalId, body.metadata)
    made = await call.write(service.create, wanted, call.actor, idempotency.reserved(call))
    return reply(end_user_json(made), 201)


@routes.get(
    "/end-users",
    "end-users:read",
    limit=_READS,
    query=EndUserQuery,
    answers=[Answer(200, "A page.", EndUserPage)],
    errors=(403,),
)
async def list_end_users(call: Call) -> Response:
    """List end-users, newest first."""
    limit = bounded(call, "limit", 20)
    after, before = parameter(call, "startingAfter"), parameter(call, "endingBefore")
    if after and before:
        raise InvalidRequest("Give startingAfter or endingBefore, not both.", field="endingBefore")
    asked = {
        "application_id": _application(call, parameter(call, "applicationId")),
        "external_id": parameter(call, "externalId"),
        "email": parameter(call, "email"),
    }
    equal = {name: value for name, value in asked.items() if value}

    rows = await call.read(applications.end_users, limit + 1, after, before, equal)
    shown = rows[-limit:] if before else rows[:limit]
    data = [end_user_json(row) for row in shown]
    return reply({"object": "list", "data": data, "hasMore": len(rows) > limit, "limit": limit})


@routes.get(
    "/end-users/{end_user_id}",
    "end-users:read",
    limit=_READS,
    answers=[Answer(200, "The end-user.", EndUserView)],
)
async def get_end_user(call: Call) -> Response:
    """Read an end-user."""
    id_, application = call.params["end_user_id"], call.principal.application_id
    found = await call.read(service.own, id_, application)
    return reply(end_user_json(found))


@routes.patch(
    "/end-users/{end_user_id}",
    "end-users:write",
    limit=_WRITES,
    body=EndUserChange,
    answers=[Answer(200, "As it is now.", EndUserView)],
    errors=(409,),
)
async def change_end_user(call: Call) -> Response:
    """Change an end-user."""
    body = await call.json(EndUserChange)
    names = {"externalId": "external_id"}
    values = {names.get(name, name): value for name, value in body.model_dump(exclude_unset=True).items()}
    who = call.principal
    changed = await call.write(
        service.change, call.params["end_user_id"], values, who.actor, who.application_id
    )
    return reply(end_user_json(changed))


@routes.delete(
    "/end-users/{end_user_id}",
    "end-users:delete",
    limit=_WRITES,
    answers=[Answer(204, "It is deleted; its runs stay.")],
)
async def delete_end_user(call: Call) -> Response:
    """Delete an end-user."""
    who = call.principal
    await call.write(service.delete, call.params["end_user_id"], who.actor, who.application_id)
    return Response(status_code=204)
