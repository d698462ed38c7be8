"""API keys: ``ask_`` and 48 hex digits, of one application, cut down to scopes (contract, section 13)."""

from __future__ import annotations

from typing import Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import Principal
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, instant_of, when
from runyard_api.surfaces.appstrate.schemas import Open
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.queries.identity import KeyRow
from runyard_common.identity.service import applications
from runyard_common.identity.service import identity as service
from runyard_common.identity.service.identity import KeyRequest, NewKey
from runyard_common.values.json_text import JsonObject

routes = AppstrateRoutes("appstrate keys")

PREFIX: Final = "ask_"
_CRUD: Final = ("read", "write", "delete")
#: What a key may hold, in the contract's order.
HOLDABLE: Final = (
    *(f"agents:{action}" for action in ("read", "write", "configure", "delete", "run")),
    *(
        f"{resource}:{action}"
        for resource in (
            "skills", "tools", "providers", "models", "proxies", "applications", "end-users", "webhooks", "schedules",
        )
        for action in _CRUD
    ),
    *(f"runs:{action}" for action in ("read", "cancel", "delete")),
)  # fmt: skip
_PAGE: Final = 500


class AppstrateKeyBody(Tolerant):
    """A key to make."""

    applicationId: str = Field(min_length=1, max_length=64)  # noqa: N815
    name: str = Field(min_length=1, max_length=100)
    expiresAt: str | None = Field(None, max_length=64, description="RFC 3339; by default never.")  # noqa: N815
    scopes: list[str] | None = Field(
        None, max_length=200, description="Omitted: all the creator may; unknown ones are dropped."
    )


class AppstrateKeyMade(Open):
    """A key; its text is shown only here."""

    id: str
    key: str
    keyPrefix: str  # noqa: N815
    scopes: list[str]


class AppstrateKey(Open):
    """A key without its text."""

    id: str
    name: str
    keyPrefix: str  # noqa: N815
    applicationId: str | None  # noqa: N815
    scopes: list[str] | None
    createdBy: str | None  # noqa: N815
    expiresAt: str | None  # noqa: N815
    lastUsedAt: str | None  # noqa: N815
    createdAt: str  # noqa: N815


class AppstrateKeyList(Open):
    """The keys that are not revoked."""

    apiKeys: list[AppstrateKey]  # noqa: N815


class ScopeList(Open):
    """What a key made by the caller may hold."""

    scopes: list[str]


def available(who: Principal) -> list[str]:
    """The scopes the caller can give a key."""
    return [scope for scope in HOLDABLE if who.may(scope)]


@routes.get("/api-keys/available-scopes", "keys:read", answers=[Answer(200, "The scopes.", ScopeList)])
async def list_scopes(call: Call) -> Response:
    """List the scopes a new key may hold."""
    return reply({"scopes": available(call.principal)})


@routes.get("/api-keys", "keys:read", answers=[Answer(200, "The keys.", AppstrateKeyList)])
async def list_api_keys(call: Call) -> Response:
    """List the keys that are neither revoked nor expired, newest first."""
    found = await call.read(_active, call.state.now())
    return reply({"apiKeys": [key_json(row) for row in found]})


def _active(scope: OrgScope, now: float) -> list[KeyRow]:
    found: list[KeyRow] = []
    before: str | None = None
    while page := identity.keys(scope, _PAGE, before):
        found += [row for row in page if row.expires_at is None or row.expires_at > now]
        before = page[-1].id
    return found


def key_json(row: KeyRow) -> JsonObject:
    return {
        "id": row.id,
        "name": row.name,
        "keyPrefix": row.prefix,
        "applicationId": row.application_id,
        "scopes": row.scopes,
        "createdBy": (row.created_by or "").partition(":")[2] or None,
        "expiresAt": when(row.expires_at),
        "lastUsedAt": when(row.last_used_at),
        "createdAt": when(row.created_at),
    }


@routes.post(
    "/api-keys",
    "keys:write",
    body=AppstrateKeyBody,
    answers=[Answer(201, "The key.", AppstrateKeyMade)],
    errors=(403, 404, 409),
)
async def create_api_key(call: Call) -> Response:
    """Make a key. It reaches no further than its maker."""
    body = await call.json(AppstrateKeyBody)
    who = call.principal
    allowed = available(who)
    scopes = [scope for scope in allowed if body.scopes is None or scope in body.scopes]
    expires = instant_of(body.expiresAt, "expiresAt") if body.expiresAt else None
    wanted = KeyRequest(body.name, who.role, scopes, expires, body.applicationId, PREFIX)
    made = await call.state.write(_create, who, wanted)
    return reply({"id": made.id, "key": made.key, "keyPrefix": made.row.prefix, "scopes": scopes}, 201)


def _create(tx: Tx, who: Principal, wanted: KeyRequest) -> NewKey:
    assert wanted.application_id is not None
    applications.own(tx, who.org_id, wanted.application_id)
    allowed = None if who.scopes is None else who.permissions
    return service.create_key(tx, who.org_id, wanted, who.actor, who.role, allowed)


@routes.delete("/api-keys/{key_id}", "keys:delete", answers=[Answer(204, "It is revoked.")])
async def revoke_api_key(call: Call) -> Response:
    """Revoke a key."""
    revoked = await call.write(service.revoke_key, call.params["key_id"], call.actor)
    call.state.keys.forget(revoked.key_hash)
    return Response(status_code=204)
