"""Secrets of the organisation, which its agents read with `ctx.secret`: names are shown, values never."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, when
from runyard_common.identity.queries import secrets
from runyard_common.identity.queries.secrets import SecretRow
from runyard_common.identity.service import secrets as service
from runyard_common.runs.rules.run_request import Strict

routes = NativeRoutes("secrets")
#: More than an organisation may have.
_MOST = 10_000


class SecretView(schemas.Shape):
    """A secret, without its value."""

    name: str
    created_at: str
    updated_at: str = Field(description="When its value was set last.")
    updated_by: str = Field(description="Who set it last.")


class SecretList(schemas.Shape):
    """Secrets, by name."""

    data: list[SecretView]


class SecretBody(Strict):
    """A secret's value."""

    value: str = Field(
        min_length=service.SHORTEST,
        max_length=service.LONGEST,
        description="It is encrypted, and shown to no caller.",
    )


def secret_json(row: SecretRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
        "updated_by": row.updated_by,
    }


@routes.get("/secrets", "secrets:read", answers=[Answer(200, "The secrets, without values.", SecretList)])
async def list_secrets(call: Call) -> Response:
    """List the organisation's secrets, without their values."""
    rows = await call.read(secrets.page, _MOST)
    return reply({"data": [secret_json(row) for row in rows]})


@routes.put(
    "/secrets/{secret_name}",
    "secrets:write",
    body=SecretBody,
    answers=[Answer(200, "The secret as it is now, without its value.", SecretView)],
    errors=(409,),
)
async def put_secret(call: Call) -> Response:
    """Set a secret, or give it a new value.

    Runs get the new value at their next `ctx.secret`.
    """
    name, value = call.params["secret_name"], (await call.json(SecretBody)).value
    service.check(name, value)
    return reply(secret_json(await call.write(service.put, name, call.state.sealer.seal(value), call.actor)))


@routes.delete("/secrets/{secret_name}", "secrets:delete", answers=[Answer(204, "It is gone.")])
async def delete_secret(call: Call) -> Response:
    """Delete a secret: `ctx.secret` fails from now on."""
    await call.write(service.remove, call.params["secret_name"], call.actor)
    return Response(status_code=204)
