"""Signing in: who the caller is, the cookie of a person, and their password."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.access import cookies
from runyard_api.access.auth import Principal, check_organisation
from runyard_api.access.cookies import SignedIn
from runyard_api.access.sign_in_attempts import Attempt
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer, Front
from runyard_api.native import schemas
from runyard_api.native.front import PREFIXES, NativeRoutes
from runyard_api.native.identity import sign_in
from runyard_api.native.schemas import RoleName
from runyard_common.database.rows import OrgScope
from runyard_common.identity.queries import identity, members
from runyard_common.identity.rules import emails
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import logins as service
from runyard_common.identity.service.identity import hash_of
from runyard_common.identity.service.logins import SignIn
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import Forbidden, InvalidRequest, Unauthorized
from runyard_common.values.json_text import JsonObject


async def by_person(call: Call) -> Principal:
    """Who calls, also a person with several organisations who names none of them."""
    return await _caller(call, await signed_in(call))


async def by_entering_person(call: Call) -> Principal:
    """The same, and a person whose sign-in opens nothing yet."""
    return await _caller(call, await signed_in(call, entering=True))


async def _caller(call: Call, person: SignedIn | None) -> Principal:
    header, wanted = call.headers.get("authorization"), call.headers.get(cookies.ORG_HEADER)
    if person is None:
        who = await call.state.auth.bearer(header)
        check_organisation(who, wanted)
        return replace(who, permissions=who.permissions | {"account:read"})
    of_account = Principal("", f"user:{person.user_id}", Role.VIEWER, cookies.ACCOUNT, user_id=person.user_id)
    if person.must_change_password or (wanted is None and len(person.places) != 1):
        return of_account
    try:
        who = person.principal(cookies.place_of(person, wanted))
    except Forbidden as refusal:
        if refusal.code == "second_factor_required":  # which the person has yet to enrol
            return of_account
        raise
    return replace(who, permissions=who.permissions | cookies.ACCOUNT)


async def signed_in(call: Call, entering: bool = False) -> SignedIn | None:
    """The person whose cookie counts for this call; None where a key or token does, or nothing.

    `entering`: also one whose sign-in opens nothing yet.
    """
    if "authorization" in call.headers:
        return None
    token = cookies.token_of(call.headers)
    if token is None:
        return None
    return await call.state.cookies.person(token, call.method, call.headers, entering)


#: The routes that are about a person rather than an organisation.
ACCOUNT: Final = Front("native", PREFIXES, authenticate=by_person, cookies=True)
#: Those that a person needs to finish a sign-in, or to end it.
ENTRY: Final = Front("native", PREFIXES, authenticate=by_entering_person, cookies=True)
routes = NativeRoutes("sign-in")


class LoginBody(Strict):
    """Who signs in."""

    email: str = Field(max_length=emails.LONGEST)
    password: str = Field(max_length=1024)
    code: str | None = Field(
        None, max_length=64, description="Of the second factor, for who has one; or a recovery code."
    )


class OrganisationPlace(schemas.Shape):
    """An organisation the caller belongs to, and the role it has there."""

    id: str
    name: str
    role: RoleName


class PersonView(schemas.Shape):
    """A person."""

    id: str
    email: str
    name: str
    second_factor: bool = Field(description="Whether sign-ins need a code with the password.")


class Me(schemas.Shape):
    """Who calls. `org_id` and `role` are null for a person of several organisations who named none."""

    org_id: str | None
    actor: str
    role: RoleName | None
    permissions: list[str]
    person: PersonView | None
    organisations: list[OrganisationPlace]
    csrf_token: str | None
    must_change_password: bool = Field(
        description="Another person chose the password: until POST /me/password nothing else is open."
    )


@routes.post(
    "/login",
    None,
    body=LoginBody,
    answers=[Answer(200, "You are signed in; the cookie carries the sign-in.", Me)],
    errors=(401, 403, 429),
)
async def login(call: Call) -> Response:
    """Sign in with e-mail address and password.

    Who has a second factor sends its code too (401 `second_factor_needed`).

    Sets a cookie that scripts cannot read. Calls by cookie that change something need `csrf_token` in
    X-CSRF-Token. It lasts 12 hours after its last use, 30 days at most.
    """
    cookies.check_same_site(call.method, call.headers, call.state.settings)
    body = await call.json(LoginBody)
    email = body.email.strip().lower()
    proved = await sign_in.prove(call, email, body.password, body.code, sign_in.wrong_password())
    return await welcome(call, await sign_in.begin(call, proved, body.password), device=proved.device)


async def welcome(call: Call, made: SignIn, status: int = 200, device: str | None = None) -> Response:
    """Set the cookies, and answer with who the person is. `device` is the browser's id when it was known before."""
    person = await call.state.cookies.known(made.token)
    only = person.places[0] if len(person.places) == 1 and not person.must_change_password else None
    if only is not None and person.lacks_second_factor(only):
        only = None
    who = person.principal(only) if only else None
    body = {
        "org_id": only.id if only else None,
        "actor": f"user:{person.user_id}",
        "role": only.role.value if only else None,
        "permissions": sorted((who.permissions if who else frozenset()) | cookies.ACCOUNT),
        "person": person_json(person),
        "organisations": places_json(person),
        "csrf_token": person.csrf,
        "must_change_password": person.must_change_password,
    }
    response = reply(body, status)
    cookies.set_cookie(response, made.token, cookies.is_https(call.scope, call.state.settings))
    await sign_in.remember_device(call, response, person.user_id, device)
    return response


@routes.post("/logout", "account:write", front=ENTRY, answers=[Answer(204, "You are signed out.")])
async def logout(call: Call) -> Response:
    """Sign out: the cookie counts no longer, in this browser or wherever it was copied to."""
    token = cookies.token_of(call.headers)
    assert token is not None
    user_id = call.principal.user_id
    assert user_id is not None
    await call.state.write(service.end, hash_of(token), user_id, call.actor)
    call.state.cookies.forget_all()
    response = Response(status_code=204)
    cookies.clear_cookie(response, cookies.is_https(call.scope, call.state.settings))
    return response


@routes.get("/me", "account:read", front=ENTRY, answers=[Answer(200, "Who calls.", Me)])
async def me(call: Call) -> Response:
    """Return who the caller is and what it may do."""
    who, person = call.principal, await signed_in(call, entering=True)
    return reply(
        {
            "org_id": who.org_id or None,
            "actor": who.actor,
            "role": who.role.value if who.org_id else None,
            "permissions": sorted(who.permissions),
            "person": person and person_json(person),
            "organisations": await _places(call, person),
            "csrf_token": person and person.csrf,
            "must_change_password": person is not None and person.must_change_password,
        }
    )


class PlaceList(schemas.Shape):
    """Organisations."""

    data: list[OrganisationPlace]


@routes.get(
    "/organisations",
    "account:read",
    front=ACCOUNT,
    answers=[Answer(200, "The organisations.", PlaceList)],
)
async def list_organisations(call: Call) -> Response:
    """List the organisations the caller belongs to; a key or token belongs to one."""
    return reply({"data": await _places(call, await signed_in(call))})


async def _places(call: Call, person: SignedIn | None) -> list[JsonObject]:
    if person is not None:
        return places_json(person)
    who = call.principal

    def name(scope: OrgScope) -> str:
        found = identity.organisation(scope.conn, scope.org_id)
        return found.name if found else ""

    return [{"id": who.org_id, "name": await call.read(name), "role": who.role.value}]


def places_json(person: SignedIn) -> list[JsonObject]:
    return [{"id": place.id, "name": place.name, "role": place.role.value} for place in person.places]


def person_json(person: SignedIn) -> JsonObject:
    has_factor = person.second_factor_at is not None
    return {"id": person.user_id, "email": person.email, "name": person.name, "second_factor": has_factor}


class PasswordBody(Strict):
    """A change of password."""

    current: str = Field(max_length=1024)
    new: str = Field(max_length=1024, description="10 to 256 characters.")


@routes.post(
    "/me/password",
    "account:write",
    front=ENTRY,
    body=PasswordBody,
    answers=[Answer(204, "It is changed; every other sign-in of yours has ended.")],
    errors=(429,),
)
async def change_password(call: Call) -> Response:
    """Change your password. Needs the present one."""
    body = await call.json(PasswordBody)
    person = await signed_in(call, entering=True)
    assert person is not None
    kept = await call.state.reader.one(lambda conn: members.person(conn, person.user_id))
    attempt = Attempt.of_sign_in(person.token_hash)
    if kept is None or not await sign_in.matches(call, attempt, body.current, kept.password_hash):
        await sign_in.note_failure(
            call, attempt, person.email, kept.id if kept else None, "wrong_present_password"
        )
        raise Unauthorized("The present password is wrong.", code="wrong_password", field="current")
    if body.new == body.current:
        raise InvalidRequest("The new password is the present one.", code="same_password", field="new")
    places = await call.state.reader.one(lambda conn: members.organisations_of(conn, person.user_id))
    names = [place.name for place in places]
    await sign_in.check_new(call, body.new, "new", person.email, person.name, *names)
    fresh = await sign_in.hash_password(call, body.new)
    await call.state.write(service.change_password, person.user_id, fresh, person.token_hash, call.actor)
    call.state.cookies.forget_all()
    response = Response(status_code=204)
    await sign_in.remember_device(call, response, person.user_id, None)
    return response
