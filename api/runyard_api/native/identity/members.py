"""Members of an organisation, and invitations to join it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import orjson
from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.access import cookies
from runyard_api.access.sign_in_attempts import Attempt
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Paging, page, when
from runyard_api.native.identity import account, sign_in
from runyard_api.native.identity.account import Me
from runyard_api.native.schemas import RoleName
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import members
from runyard_common.identity.queries.members import InvitationRow, MemberRow, PersonRow, PresentedInvitation
from runyard_common.identity.rules import emails
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import logins
from runyard_common.identity.service import members as service
from runyard_common.identity.service.logins import Origin, SignIn
from runyard_common.identity.service.members import By
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import InvalidRequest, NotFound, Unauthorized
from runyard_common.values.json_text import JsonObject

M = TypeVar("M")
routes = NativeRoutes("members")


class MemberView(schemas.Shape):
    """A person's place in the organisation."""

    id: str
    email: str
    name: str
    role: RoleName
    created_at: str


class MemberPage(schemas.Page):
    """A page of members."""

    data: list[MemberView]  # type: ignore[assignment]


class RoleBody(Strict):
    """A member's new role."""

    role: RoleName


class InvitationBody(Strict):
    """Who is invited."""

    email: str = Field(max_length=emails.LONGEST)
    role: RoleName = Field("member", description="At most your own.")


class MemberBody(InvitationBody):
    """A person to add."""

    password: str | None = Field(
        None, max_length=1024, description="Refused: a person sets their own, by the invitation's link."
    )


class InvitationView(schemas.Shape):
    """An invitation that waits."""

    id: str
    email: str
    role: RoleName
    created_by: str
    created_at: str
    expires_at: str


class InvitationMade(InvitationView):
    """An invitation with its link, shown only once; null where a repeated request is answered again."""

    token: str | None
    link: str | None


class InvitationList(schemas.Shape):
    """Invitations."""

    data: list[InvitationView]


class Acceptance(Strict):
    """Who accepts an invitation."""

    token: str = Field(min_length=1, max_length=200)
    name: str = Field("", max_length=200, description="For a new account.")
    password: str = Field(
        max_length=1024,
        description="Of the account this address has; else the one to sign in with from now on.",
    )
    code: str | None = Field(
        None,
        max_length=64,
        description="Of the second factor that the account has, if any; or a recovery code.",
    )


def member_json(row: MemberRow) -> JsonObject:
    body = {name: getattr(row, name) for name in ("email", "name", "role")}
    return {"id": row.user_id} | body | {"created_at": when(row.created_at)}


def invitation_json(row: InvitationRow) -> JsonObject:
    body = {name: getattr(row, name) for name in ("id", "email", "role", "created_by")}
    return body | {name: when(getattr(row, name)) for name in ("created_at", "expires_at")}


def link_json(call: Call, token: str | None) -> JsonObject:
    """An invitation's token, and the page that takes it: behind the #, so that no log on the way has it."""
    link = f"{call.state.settings.base_url}/console#/invitation/{token}" if token else None
    return {"token": token, "link": link}


async def create_with_secret(
    call: Call,
    command: Callable[[Tx], M],
    shown: Callable[[M], JsonObject],
    secret: Callable[[M], JsonObject],
    join: Callable[[JsonObject, JsonObject], JsonObject],
) -> Response:
    """201 with what `command` made and its secret; a repetition by Idempotency-Key does not get the secret.

    `shown` is the body without the secret, `join` puts the secret in.
    """
    return await idempotency.create(
        call,
        command,
        lambda made: reply(shown(made), 201),
        lambda made, kept: reply(join(orjson.loads(bytes(kept.body)), secret(made)), 201),
    )


def _by(call: Call) -> By:
    who = call.principal
    return By(who.actor, who.role, None if who.scopes is None else who.permissions)


def _printable(text: str, field: str) -> str:
    if not text.isprintable():
        raise InvalidRequest(
            f"{field} is written in printable characters.", code="invalid_field", field=field
        )
    return text.strip()


@routes.get("/members", "members:read", query=Paging, answers=[Answer(200, "A page of members.", MemberPage)])
async def list_members(call: Call) -> Response:
    """List the people of the organisation, the newest accounts first."""
    given = call.query(Paging)
    rows = await call.read(members.members, given.limit + 1, given.before)
    return reply(page([member_json(row) for row in rows], given.limit, [row.user_id for row in rows]))


@routes.post(
    "/members",
    "members:write",
    body=MemberBody,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The invitation; hand its link to the person.", InvitationMade)],
)
async def add_member(call: Call) -> Response:
    """Invite a person, as POST /invitations does.

    Accounts are made by accepting an invitation alone: the person sets the password. Whether the address has an
    account already makes no difference here.
    """
    body = await call.json(MemberBody)
    if body.password is not None:
        raise InvalidRequest(
            "A person sets their own password: leave it out, and hand on the invitation's link.",
            code="password_not_accepted",
            field="password",
        )
    return await _invited(call, body)


@routes.patch(
    "/members/{user_id}",
    "members:write",
    body=RoleBody,
    answers=[Answer(200, "The member as it is now.", MemberView)],
    errors=(409,),
)
async def change_member(call: Call) -> Response:
    """Change a member's role. What their keys and sign-ins may do follows at once; the last owner stays one."""
    body = await call.json(RoleBody)
    row = await call.write(service.change, call.params["user_id"], Role(body.role), _by(call))
    call.state.forget_callers()
    return reply(member_json(row))


@routes.delete(
    "/members/{user_id}",
    "members:delete",
    answers=[Answer(204, "The place is gone, and with it what their keys may do.")],
    errors=(409,),
)
async def remove_member(call: Call) -> Response:
    """Remove a member. The account stays, for other organisations; the last owner stays too."""
    await call.write(service.remove, call.params["user_id"], _by(call))
    call.state.forget_callers()
    return Response(status_code=204)


@routes.get(
    "/invitations",
    "members:read",
    answers=[Answer(200, "The invitations that wait.", InvitationList)],
)
async def list_invitations(call: Call) -> Response:
    """List the invitations that are not accepted yet, newest first."""
    db = call.state.db
    rows = await call.read(lambda scope: members.invitations(scope, db.now(scope.conn)))
    return reply({"data": [invitation_json(row) for row in rows]})


@routes.post(
    "/invitations",
    "members:write",
    body=InvitationBody,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The invitation; hand its link to the person.", InvitationMade)],
)
async def invite(call: Call) -> Response:
    """Invite a person: the holder of the link sets a password, or signs in, and joins.

    The link works once, for seven days. An earlier invitation to the same address is void.
    """
    return await _invited(call, await call.json(InvitationBody))


async def _invited(call: Call, body: InvitationBody) -> Response:
    email = emails.normalised(body.email)
    return await create_with_secret(
        call,
        lambda tx: service.invite(tx, call.org_id, email, Role(body.role), _by(call)),
        lambda made: invitation_json(made.row) | link_json(call, None),
        lambda made: link_json(call, made.token),
        lambda shown, link: shown | link,
    )


@routes.delete(
    "/invitations/{invitation_id}",
    "members:delete",
    answers=[Answer(204, "Its link works no longer.")],
)
async def withdraw_invitation(call: Call) -> Response:
    """Withdraw an invitation."""
    await call.write(service.withdraw, call.params["invitation_id"], call.actor)
    return Response(status_code=204)


@routes.post(
    "/invitations/accept",
    None,
    body=Acceptance,
    answers=[Answer(201, "You belong to the organisation, and are signed in.", Me)],
    errors=(401, 403, 404, 409, 429),
)
async def accept_invitation(call: Call) -> Response:
    """Accept an invitation, with the password of the account its address has, or with a new one."""
    cookies.check_same_site(call.method, call.headers, call.state.settings)
    body = await call.json(Acceptance)
    invitation, person = await _looked_up(call, body.token)
    email, proved = invitation.email, None
    kept: str | None
    if person is None:
        await sign_in.check_new(call, body.password, "password", email, body.name, invitation.organisation)
        kept = await sign_in.hash_password(call, body.password)
    else:
        proved = await sign_in.prove(call, email, body.password, body.code, _account_exists())
        if proved.person.must_change_password:
            raise cookies.password_change_needed()
        kept = proved.person.password_hash
    made = await call.state.write(_accept, body, person.id if person else None, kept, sign_in.origin_of(call))
    if proved is not None:
        await sign_in.succeeded(call, proved)
    call.state.forget_callers()
    return await account.welcome(call, made, 201, proved.device if proved else None)


async def _looked_up(call: Call, token: str) -> tuple[PresentedInvitation, PersonRow | None]:
    """The invitation and its account. Errors: `NotFound` invitation_not_found, counted for the network alone."""
    attempt, db = Attempt.by_network(call.address), call.state.db
    await call.state.sign_ins.check(attempt)
    try:
        return await call.state.reader.one(lambda conn: service.look(conn, token, db.now(conn)))
    except NotFound:
        await call.state.sign_ins.failed(attempt)
        raise


def _account_exists() -> Unauthorized:
    return Unauthorized(
        "This address has an account: send the password of that.", code="wrong_password", field="password"
    )


def _accept(tx: Tx, body: Acceptance, user_id: str | None, kept: str | None, origin: Origin) -> SignIn:
    joined = service.accept(tx, body.token, user_id, _printable(body.name, "name"), kept)
    return logins.begin(tx, joined, kept, None, origin)
