"""API keys."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import (
    NativeRoutes,
    Paging,
    instant_of,
    moment,
    page,
    when,
)
from runyard_api.native.schemas import RoleName
from runyard_common.identity.queries import identity
from runyard_common.identity.queries.identity import KeyRow
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity as service
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.runs.rules.run_request import Strict
from runyard_common.schedules.rules.timezones import LAST_INSTANT
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("keys")


class KeyBody(Strict):
    """A key to make."""

    name: str = Field(min_length=1, max_length=200)
    role: RoleName = Field("member", description="At most your own.")
    scopes: list[Annotated[str, Field(max_length=64)]] | None = Field(
        None, max_length=200, description="Permissions (resource:action) to cut the role down to."
    )
    expires_at: str | None = moment("RFC 3339; by default never.")


class KeyView(schemas.Shape):
    """A key, without its text."""

    id: str
    name: str
    prefix: str
    role: RoleName
    scopes: list[str] | None
    created_by: str | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class KeyPage(schemas.Page):
    """A page of keys."""

    data: list[KeyView]  # type: ignore[assignment]


class KeyMade(KeyView):
    """A key with its text, shown only once."""

    key: str


def key_json(row: KeyRow) -> JsonObject:
    return {name: getattr(row, name) for name in ("id", "name", "prefix", "role", "scopes", "created_by")} | {
        name: when(getattr(row, name)) for name in ("created_at", "expires_at", "last_used_at")
    }


@routes.get("/keys", "keys:read", query=Paging, answers=[Answer(200, "A page of keys.", KeyPage)])
async def list_keys(call: Call) -> Response:
    """List the keys that are not revoked, newest first."""
    given = call.query(Paging)
    rows = await call.read(identity.keys, given.limit + 1, given.before)
    return reply(page([key_json(row) for row in rows], given.limit, [row.id for row in rows]))


@routes.post(
    "/keys",
    "keys:write",
    body=KeyBody,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The key; its text is shown only here.", KeyMade)],
    errors=(403,),
)
async def create_key(call: Call) -> Response:
    """Make a key.

    It reaches no further than the one it is made with. A repetition with the same Idempotency-Key does not
    show the text again.
    """
    body = await call.json(KeyBody)
    expires_at = instant_of(body.expires_at, "expires_at", LAST_INSTANT) if body.expires_at else None
    wanted = KeyRequest(body.name, Role(body.role), body.scopes, expires_at)
    who = call.principal
    allowed = None if who.scopes is None else who.permissions
    return await idempotency.create(
        call,
        lambda tx: service.create_key(tx, who.org_id, wanted, who.actor, who.role, allowed),
        lambda made: reply(key_json(made.row) | {"key": ""}, 201),
        # The text goes to the caller, not into the answer that is kept for repetitions.
        lambda made, kept: reply(_with_key(kept, made.key), 201),
    )


def _with_key(response: Response, key: str) -> JsonObject:
    whole: JsonObject = orjson.loads(bytes(response.body)) | {"key": key}
    return whole


@routes.delete(
    "/keys/{key_id}",
    "keys:delete",
    answers=[Answer(204, "New requests with it are refused; runs under way finish.")],
)
async def revoke_key(call: Call) -> Response:
    """Revoke a key."""
    revoked = await call.write(service.revoke_key, call.params["key_id"], call.actor)
    call.state.keys.forget(revoked.key_hash)
    return Response(status_code=204)
