"""Single sign-on: beginning it, what the provider answers with, and linking it with an account."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Any, Final

import structlog
from pydantic import ConfigDict, Field
from sqlalchemy.exc import IntegrityError
from starlette.requests import cookie_parser
from starlette.responses import Response

from runyard_api.access import cookies
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, NoParameters, when
from runyard_api.native.identity import sign_in
from runyard_api.native.identity.account import ACCOUNT, signed_in
from runyard_common.credentials.rules.sealing import SealBroken
from runyard_common.identity.queries import identities, logins
from runyard_common.identity.queries.identities import IdentityRow
from runyard_common.identity.rules.single_sign_on import Identity, failed
from runyard_common.identity.service import single_sign_on as service
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import NotFound, RunyardError, Unauthorized

if TYPE_CHECKING:
    from runyard_api.access.oidc_provider import OidcProvider

log = structlog.get_logger()
routes = NativeRoutes("sign-in")

CALLBACK: Final = "/login/oidc/callback"
#: What the browser keeps while the person is at the provider, and for how long, in seconds. The provider's page sends
#: the browser back, so SameSite=Strict would keep the cookie from coming.
NAME: Final = "runyard_sign_on"
SECURE_NAME: Final = "__Host-runyard_sign_on"
LIFETIME: Final = 600


class SignInWays(schemas.Shape):
    """How people may sign in here."""

    password: bool
    single_sign_on: bool


class SignOnBody(Strict):
    """How single sign-on begins."""

    invitation: str | None = Field(
        None, max_length=200, description="The token of an invitation to accept by it."
    )


class SignOnStart(schemas.Shape):
    """Where single sign-on goes on."""

    url: str = Field(description="Open it in this browser.")


class LinkView(schemas.Shape):
    """An identity of the provider that opens the account."""

    issuer: str
    created_at: str


class LinkList(schemas.Shape):
    """The identities that open the account."""

    data: list[LinkView]


class CallbackQuery(NoParameters):
    """What the provider sends the browser back with (RFC 6749, section 4.1.2; RFC 9207)."""

    model_config = ConfigDict(extra="ignore")

    code: str | None = Field(None, max_length=4096)
    state: str | None = Field(None, max_length=200)
    error: str | None = Field(None, max_length=200)
    iss: str | None = Field(None, max_length=2048)


@routes.get("/login", None, answers=[Answer(200, "The ways.", SignInWays)])
async def sign_in_ways(call: Call) -> Response:
    """Read how people may sign in here."""
    return reply({"password": True, "single_sign_on": call.state.sign_on is not None})


@routes.post(
    "/login/oidc",
    None,
    body=SignOnBody,
    body_optional=True,
    answers=[Answer(200, "Open `url` in the browser that made this call.", SignOnStart)],
    errors=(403, 404),
)
async def begin_sign_on(call: Call) -> Response:
    """Begin single sign-on. With an invitation's token the person joins by it.

    The invitation must be for the address that the provider has verified.
    """
    cookies.check_same_site(call.method, call.headers, call.state.settings)
    body = await call.optional_json(SignOnBody)
    return await _begin(call, invitation=body.invitation)


@routes.post(
    "/me/single-sign-on",
    "account:write",
    front=ACCOUNT,
    answers=[Answer(200, "Open `url` in the browser that made this call.", SignOnStart)],
    errors=(404,),
)
async def begin_link(call: Call) -> Response:
    """Begin to link your account with the provider. It must know you by the same e-mail address."""
    person = await signed_in(call)
    assert person is not None
    return await _begin(call, link=person.token_hash)


@routes.get(
    "/me/single-sign-on",
    "account:read",
    front=ACCOUNT,
    answers=[Answer(200, "The identities that open your account.", LinkList)],
)
async def list_links(call: Call) -> Response:
    """List the identities of the provider that open your account."""
    person = await signed_in(call)
    rows: list[IdentityRow] = []
    if person is not None:
        rows = await call.state.reader.one(lambda conn: identities.of_person(conn, person.user_id))
    return reply({"data": [{"issuer": row.issuer, "created_at": when(row.created_at)} for row in rows]})


@routes.delete(
    "/me/single-sign-on",
    "account:write",
    front=ACCOUNT,
    answers=[Answer(204, "The password alone opens the account.")],
    errors=(409,),
)
async def unlink(call: Call) -> Response:
    """Let single sign-on open your account no longer. An account without a password keeps it."""
    person = await signed_in(call)
    assert person is not None
    await call.state.write(service.unlink, person.user_id, call.actor)
    return Response(status_code=204)


async def _begin(call: Call, invitation: str | None = None, link: str | None = None) -> Response:
    provider = _provider(call)
    kept: dict[str, Any] = {
        "state": secrets.token_urlsafe(32),
        "nonce": secrets.token_urlsafe(32),
        "verifier": secrets.token_urlsafe(48),
        "until": call.state.now() + LIFETIME,
        "invitation": invitation,
        "link": link,
    }
    url = await provider.authorization_url(
        _redirect_uri(call), kept["state"], kept["nonce"], kept["verifier"]
    )
    response = reply({"url": url})
    secure = cookies.is_https(call.scope, call.state.settings)
    response.set_cookie(
        SECURE_NAME if secure else NAME, call.state.sealer.seal(kept).decode(), max_age=LIFETIME, path="/",
        secure=secure, httponly=True, samesite="lax",
    )  # fmt: skip
    return response


@routes.get(
    CALLBACK,
    None,
    query=CallbackQuery,
    answers=[
        Answer(
            303,
            "The console, signed in; or with the code of a refusal behind the #.",
            {"type": "string"},
            "text/html",
            headers=("Location",),
        )
    ],
    errors=(404,),
)
async def finish_sign_on(call: Call) -> Response:
    """Where the provider sends the browser back to."""
    given = call.query(CallbackQuery)
    _provider(call)
    console = f"{call.state.settings.base_url}/console"
    try:
        response = await _finished(call, given, console)
    except RunyardError as refusal:
        log.warning("A single sign-on was refused.", action="sign_in", code=refusal.code)
        response = _to(f"{console}#/sign-on/{refusal.code}")
    secure = cookies.is_https(call.scope, call.state.settings)
    name = SECURE_NAME if secure else NAME
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")
    return response


async def _finished(call: Call, given: CallbackQuery, console: str) -> Response:
    kept, provider = _kept(call), _provider(call)
    if kept is None or not hmac.compare_digest(str(given.state).encode(), kept["state"].encode()):
        raise failed()  # begun in another browser, too long ago, or not at all
    if given.code is None or given.iss not in (None, provider.rules.issuer):
        raise failed()
    origin = sign_in.origin_of(call)
    who = await provider.identity(given.code, _redirect_uri(call), kept["nonce"], kept["verifier"])
    if kept["link"] is not None:
        await call.state.write(service.link, who, await _linking(call, kept["link"]), origin)
        return _to(f"{console}#/account")
    arguments = (who, provider.rules, kept["invitation"], origin)
    try:
        made = await call.state.write(service.sign_in, *arguments)
    except IntegrityError:  # another process made the same account at the same time: now it is there
        made = await call.state.write(service.sign_in, *arguments)
    call.state.forget_callers()
    _log(who)
    response = _to(f"{console}#/runs")
    cookies.set_cookie(response, made.token, cookies.is_https(call.scope, call.state.settings))
    return response


def _to(url: str) -> Response:
    return Response("See Location.", 303, {"location": url}, "text/html")


def _log(who: Identity) -> None:
    log.info("A person signed in.", action="sign_in", issuer=who.issuer, subject=who.subject[:100])


async def _linking(call: Call, token_hash: str) -> str:
    """The person who began to link, if that sign-in still counts; `Unauthorized` session_expired."""
    found = await call.state.reader.one(lambda conn: logins.get(conn, token_hash))
    if found is None or found.expires_at <= call.state.now() or found.must_change_password:
        raise Unauthorized("You are signed out; sign in again.", code="session_expired")
    return found.user_id


def _kept(call: Call) -> dict[str, Any] | None:
    """What this browser kept since single sign-on began; None without it, or too late."""
    given = cookie_parser(call.headers["cookie"]) if "cookie" in call.headers else {}
    token = next((given[name] for name in (SECURE_NAME, NAME) if given.get(name)), None)
    if token is None:
        return None
    try:
        found: dict[str, Any] = call.state.sealer.open(token.encode("utf-8", "surrogatepass"))
    except SealBroken:
        return None
    return found if "verifier" in found and found["until"] > call.state.now() else None


def _redirect_uri(call: Call) -> str:
    return f"{call.state.settings.base_url}/api/v1{CALLBACK}"


def _provider(call: Call) -> OidcProvider:
    provider = call.state.sign_on
    if provider is None:
        raise NotFound(
            "Single sign-on is not set up here: the operator sets RUNYARD_OIDC_ISSUER.",
            code="no_single_sign_on",
        )
    return provider
