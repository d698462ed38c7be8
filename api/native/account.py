"""Signing in: who the caller is, the cookie of a person, and their password."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import replace
from typing import Any, Final

from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from api import cookies
from api.auth import Principal, check_organisation
from api.call import Call, reply
from api.cookies import SignedIn
from api.native import schemas
from api.native.front import NATIVE, PREFIXES, NoParameters
from api.native.schemas import RoleName
from api.operations import Answer, Front, Routes
from common.domain import emails, passwords
from common.domain.errors import TooManyRequests, Unauthorized
from common.domain.roles import Role
from common.domain.run_request import Strict
from common.services import logins as service
from common.services.identity import hash_of
from common.services.logins import SignIn
from common.store import identity, members

#: Sign-ins tried in a minute for one address of a person, and from one address of the network.
TRIES_FOR_EMAIL: Final = 10
TRIES_FROM_HOST: Final = 30


async def by_person(call: Call) -> Principal:
    """Who calls, also a person with several organisations who names none of them."""
    header, wanted = call.headers.get("authorization"), call.headers.get(cookies.ORG_HEADER)
    person = await signed_in(call)
    if person is None:
        who = await call.state.auth.bearer(header)
        check_organisation(who, wanted)
        return replace(who, permissions=who.permissions | {"account:read"})
    if wanted is None and len(person.places) != 1:
        return Principal("", f"user:{person.user_id}", Role.VIEWER, cookies.ACCOUNT, user_id=person.user_id)
    who = person.principal(cookies.place_of(person, wanted))
    return replace(who, permissions=who.permissions | cookies.ACCOUNT)


async def signed_in(call: Call) -> SignedIn | None:
    """The person whose cookie counts for this call; None where a key or token does, or nothing."""
    if "authorization" in call.headers:
        return None
    token = cookies.token_of(call.headers)
    return None if token is None else await call.state.cookies.person(token, call.method, call.headers)


#: The routes that are about a person rather than an organisation.
ACCOUNT: Final = Front("native", PREFIXES, authenticate=by_person)
routes = Routes(NATIVE, "people who sign in")


class LoginBody(Strict):
    """Who signs in."""

    email: str = Field(max_length=emails.LONGEST)
    password: str = Field(max_length=1024)


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


class Me(schemas.Shape):
    """Who calls. `org_id` and `role` are null for a person of several organisations who named none."""

    org_id: str | None
    actor: str
    role: RoleName | None
    permissions: list[str]
    person: PersonView | None
    organisations: list[OrganisationPlace]
    csrf_token: str | None


@routes.post(
    "/login",
    None,
    query=NoParameters,
    body=LoginBody,
    answers=[Answer(200, "You are signed in; the cookie says so from now on.", Me)],
    errors=(400, 401, 403, 413, 415, 429),
)
async def login(call: Call) -> Response:
    """Sign in with e-mail address and password.

    Sets a cookie that scripts cannot read. Calls by cookie that change something need `csrf_token` in
    X-CSRF-Token. It lasts 12 hours after its last use, 30 days at most.
    """
    call.query(NoParameters)
    cookies.check_same_site(call.method, call.headers, call.state.settings)
    body = await call.json(LoginBody)
    email = body.email.strip().lower()
    await throttle(call, email)
    made = await sign_in(call, email, body.password)
    return await welcome(call, made)


async def sign_in(call: Call, email: str, password: str) -> SignIn:
    """A sign-in for who knows the password; `Unauthorized` wrong_password says no more than that."""
    person = await call.state.reader.one(lambda conn: members.person_by_email(conn, email))
    kept = person["password_hash"] if person else None
    async with call.state.hashing:
        right = await call.state.aside(passwords.matches, password, kept)
    if person is None or kept is None or not right:
        raise Unauthorized("The e-mail address or the password is wrong.", code="wrong_password")
    fresh = await hash_password(call, password) if passwords.outdated(kept) else None
    return await call.state.write(service.begin, person["id"], kept, fresh)


async def hash_password(call: Call, password: str) -> str:
    """What is kept of a password."""
    async with call.state.hashing:
        return await call.state.aside(passwords.hashed, password)


async def welcome(call: Call, made: SignIn, status: int = 200) -> Response:
    """Set the cookie, and tell the person who they are."""
    person = await call.state.cookies.known(made.token)
    places = [place_json(place.id, place.name, place.role.value) for place in person.places]
    only = person.places[0] if len(person.places) == 1 else None
    who = person.principal(only) if only else None
    told = {
        "org_id": only.id if only else None,
        "actor": f"user:{person.user_id}",
        "role": only.role.value if only else None,
        "permissions": sorted((who.permissions if who else frozenset()) | cookies.ACCOUNT),
        "person": {"id": person.user_id, "email": person.email, "name": person.name},
        "organisations": places,
        "csrf_token": person.csrf,
    }
    response = reply(told, status)
    cookies.give(response, made.token, cookies.is_https(call.scope, call.state.settings))
    return response


async def throttle(call: Call, email: str) -> None:
    """Count a try; `TooManyRequests` too_many_sign_ins. This process counts too, for when Redis is away."""
    kept = hashlib.sha256(email.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    for who, most in ((f"email:{kept}", TRIES_FOR_EMAIL), (f"host:{_host(call)}", TRIES_FROM_HOST)):
        for rates in (call.state.rates, call.state.own_rates):
            standing = await rates.hit(who, "sign-in", most)
            if not standing.allowed:
                raise TooManyRequests(
                    "Too many sign-ins were tried; wait a minute.",
                    code="too_many_sign_ins",
                    retry_after=standing.reset_s,
                )


def _host(call: Call) -> str:
    """Where the call comes from; of an IPv6 address the network (RFC 4291: a site has 2^64 addresses)."""
    client = call.scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return "unknown"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network(f"{address.compressed.partition('%')[0]}/64", strict=False))


@routes.post(
    "/logout",
    "account:write",
    front=ACCOUNT,
    query=NoParameters,
    answers=[Answer(204, "You are signed out.")],
    errors=(400,),
)
async def logout(call: Call) -> Response:
    """Sign out: the cookie counts no longer, in this browser or wherever it was copied to."""
    call.query(NoParameters)
    token = cookies.token_of(call.headers)
    assert token is not None
    await call.state.write(service.end, hash_of(token))
    call.state.cookies.forget_all()
    response = Response(status_code=204)
    cookies.take(response, cookies.is_https(call.scope, call.state.settings))
    return response


@routes.get(
    "/me",
    "account:read",
    front=ACCOUNT,
    query=NoParameters,
    answers=[Answer(200, "Who calls.", Me)],
    errors=(400,),
)
async def me(call: Call) -> Response:
    """Tell who the caller is and what it may do."""
    call.query(NoParameters)
    who, person = call.principal, await signed_in(call)
    return reply(
        {
            "org_id": who.org_id or None,
            "actor": who.actor,
            "role": who.role.value if who.org_id else None,
            "permissions": sorted(who.permissions),
            "person": person and {"id": person.user_id, "email": person.email, "name": person.name},
            "organisations": await _places(call, person),
            "csrf_token": person and person.csrf,
        }
    )


class PlaceList(schemas.Shape):
    """Organisations."""

    data: list[OrganisationPlace]


@routes.get(
    "/organisations",
    "account:read",
    front=ACCOUNT,
    query=NoParameters,
    answers=[Answer(200, "The organisations.", PlaceList)],
    errors=(400,),
)
async def list_organisations(call: Call) -> Response:
    """List the organisations the caller belongs to; a key or token belongs to one."""
    call.query(NoParameters)
    return reply({"data": await _places(call, await signed_in(call))})


async def _places(call: Call, person: SignedIn | None) -> list[dict[str, Any]]:
    if person is not None:
        return [place_json(place.id, place.name, place.role.value) for place in person.places]
    who = call.principal

    def name(conn: Connection) -> str:
        found = identity.organisation(conn, who.org_id)
        return str(found["name"]) if found else ""

    return [place_json(who.org_id, await call.state.reader.one(name), who.role.value)]


def place_json(org_id: str, name: str, role: str) -> dict[str, Any]:
    """An organisation as its members see it."""
    return {"id": org_id, "name": name, "role": role}


class PasswordBody(Strict):
    """A change of password."""

    current: str = Field(max_length=1024)
    new: str = Field(max_length=1024, description="10 to 256 characters.")


@routes.post(
    "/me/password",
    "account:write",
    front=ACCOUNT,
    query=NoParameters,
    body=PasswordBody,
    answers=[Answer(204, "It is changed; every other sign-in of yours has ended.")],
    errors=(400, 413, 415, 429),
)
async def change_password(call: Call) -> Response:
    """Change your password. Needs the present one."""
    call.query(NoParameters)
    body = await call.json(PasswordBody)
    passwords.check(body.new, "new")
    person = await signed_in(call)
    assert person is not None
    await throttle(call, person.email)
    kept = await call.state.reader.one(lambda conn: members.person(conn, person.user_id))
    async with call.state.hashing:
        right = await call.state.aside(
            passwords.matches, body.current, kept["password_hash"] if kept else None
        )
    if not right:
        raise Unauthorized("The present password is wrong.", code="wrong_password", field="current")
    fresh = await hash_password(call, body.new)
    await call.state.write(service.change_password, person.user_id, fresh, person.token_hash)
    call.state.cookies.forget_all()
    return Response(status_code=204)
