"""Sign-ins of a person: where they are signed in, and ending that."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.cookies import SignedIn
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, when
from runyard_api.native.identity.account import ACCOUNT, signed_in
from runyard_common.identity.queries import logins
from runyard_common.identity.queries.logins import LoginRow
from runyard_common.identity.service import logins as service
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("sign-in")


class SignInView(schemas.Shape):
    """A sign-in under way."""

    id: str
    created_at: str
    last_used_at: str = Field(description="To some 15 seconds.")
    expires_at: str = Field(description="When it ends unless it is used again.")
    address: str | None = Field(description="The network address it was begun from.")
    agent: str | None = Field(description="The browser it was begun with, as that names itself.")
    current: bool = Field(description="Whether this call is made with it.")


class SignInList(schemas.Shape):
    """Sign-ins."""

    data: list[SignInView]


@routes.get(
    "/me/sign-ins",
    "account:read",
    front=ACCOUNT,
    answers=[Answer(200, "Your sign-ins, the newest first.", SignInList)],
)
async def list_sign_ins(call: Call) -> Response:
    """List where you are signed in. A key or token has no sign-ins."""
    person, state = await signed_in(call), call.state
    if person is None:
        return reply({"data": []})
    rows = await state.reader.one(lambda conn: logins.of_person(conn, person.user_id, state.db.now(conn)))
    return reply({"data": [_shown(row, person) for row in rows]})


def _shown(row: LoginRow, person: SignedIn) -> JsonObject:
    used = row.last_used_at if row.last_used_at is not None else row.created_at
    return {
        "id": service.public_id(row.token_hash),
        "created_at": when(row.created_at),
        "last_used_at": when(used),
        "expires_at": when(row.expires_at),
        "address": row.address,
        "agent": row.agent,
        "current": row.token_hash == person.token_hash,
    }


@routes.delete(
    "/me/sign-ins",
    "account:write",
    front=ACCOUNT,
    answers=[Answer(204, "You are signed in here alone.")],
)
async def end_other_sign_ins(call: Call) -> Response:
    """End every other sign-in of yours. Other api processes notice within two seconds."""
    person = await signed_in(call)
    assert person is not None
    await call.state.write(service.end_others, person.user_id, person.token_hash, call.actor)
    call.state.cookies.forget_all()
    return Response(status_code=204)


@routes.delete(
    "/me/sign-ins/{sign_in_id}",
    "account:write",
    front=ACCOUNT,
    answers=[Answer(204, "It has ended.")],
)
async def end_sign_in(call: Call) -> Response:
    """End a sign-in of yours. Other api processes notice within two seconds."""
    person = await signed_in(call)
    assert person is not None
    id_ = call.params["sign_in_id"]
    await call.state.write(service.end_one, person.user_id, id_, call.actor)
    call.state.cookies.forget_all()
    return Response(status_code=204)
