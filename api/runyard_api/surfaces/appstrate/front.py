"""The appstrate front: who calls and for whom, which API version, how often; errors as its clients read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from starlette.responses import Response

from runyard_api.access import cookies
from runyard_api.access.auth import Principal, check_organisation, is_credential, require
from runyard_api.http.call import Call
from runyard_api.http.errors import MEDIA_TYPE
from runyard_api.http.operations import Front, H, Handler, Routes, refusals
from runyard_api.surfaces.appstrate import idempotency, problems
from runyard_api.surfaces.appstrate.described import DESCRIBED
from runyard_api.surfaces.appstrate.problems import AppstrateProblem
from runyard_api.surfaces.appstrate.surface import API_VERSION
from runyard_common.database import pages
from runyard_common.database.rows import OrgScope
from runyard_common.identity.service import end_users
from runyard_common.values.errors import Forbidden, InvalidRequest, RunyardError, TooManyRequests, Unavailable

#: The cookie's name in the contract (section 1); ours counts too.
COOKIE: Final = "better-auth.session_token"
REALTIME: Final = "/api/realtime/"
HEADERS: Final = ("X-Org-Id", "Appstrate-User", "Appstrate-Version")
_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_END_USER: Final = "appstrate.end_user"


async def authenticate(call: Call) -> Principal:
    """Who calls; then the version header and the end-user it acts for, as section 2 orders them."""
    who = await _caller(call)
    call.response_headers["appstrate-version"] = API_VERSION
    check_version(call.headers.get("appstrate-version"))
    await _note_end_user(call, who)
    return who


async def _caller(call: Call) -> Principal:
    """A key (or token) first; anything else falls to the cookie, with the organisation the call names."""
    header, org_id = call.headers.get("authorization"), call.headers.get(cookies.ORG_HEADER)
    if call.method == "GET" and call.path.startswith(
        REALTIME
    ):  # an EventSource sets no headers: what they would say is in the query
        given = parse_qs(call.scope["query_string"].decode("latin-1"))
        if header is None and "token" in given:
            header = f"Bearer {given['token'][0]}"
        org_id = org_id or given.get("orgId", [None])[0]
    if not is_credential(header) and (token := cookies.token_of(call.headers, COOKIE)) is not None:
        # The contract asks for X-Org-Id and nothing else. A page of another site cannot send it without a preflight,
        # which is refused, so that it replaces the CSRF token. One that is sent must be right all the same.
        csrf = bool(call.headers.get(cookies.CSRF_HEADER))
        person = await call.state.cookies.person(token, call.method, call.headers, csrf=csrf)
        return person.principal(cookies.place_of(person, org_id, needed=True))
    who = await call.state.auth.bearer(header)
    check_organisation(who, org_id)
    return who


def check_version(wanted: str | None) -> None:
    """`InvalidRequest` invalid_api_version, unsupported_api_version."""
    if wanted is None or wanted == API_VERSION:
        return
    name = "Appstrate-Version"
    try:
        if not _VERSION.fullmatch(wanted):
            raise ValueError
        date.fromisoformat(wanted)
    except ValueError:
        raise InvalidRequest(
            f"{name} is a date, YYYY-MM-DD.", code="invalid_api_version", field=name
        ) from None
    raise InvalidRequest(
        f"There is no API version {wanted}; this server speaks {API_VERSION}.",
        code="unsupported_api_version",
        field=name,
    )


async def _note_end_user(call: Call, who: Principal) -> None:
    wanted = call.headers.get("appstrate-user")
    if wanted is None:
        return
    name = "Appstrate-User"
    if who.key_id is None:
        raise InvalidRequest(f"{name} goes with API keys only.", code="header_not_allowed", field=name)
    if not wanted.startswith(end_users.PREFIX):
        raise InvalidRequest(
            f"{name} is an end-user's id; it begins with {end_users.PREFIX}.",
            code="invalid_end_user_id",
            field=name,
        )
    if not await call.state.reader.one(
        lambda conn: end_users.may_act(OrgScope(conn, who.org_id), who.application_id, wanted)
    ):
        raise Forbidden("This key's application has no such end-user.", code="invalid_end_user", field=name)
    call.scope[_END_USER] = wanted


def end_user(call: Call) -> str | None:
    found: str | None = call.scope.get(_END_USER)
    return found


def render(call: Call, error: RunyardError) -> Response:
    return problems.answer(error, call.request_id)


APPSTRATE: Final = Front(
    "appstrate",
    ("/api",),
    render,
    authenticate,
    error=AppstrateProblem,
    error_type=MEDIA_TYPE,
    cookies=True,
    described=DESCRIBED,
)


class AppstrateRoutes(Routes):
    """Operations with the contract's rate limits (per minute) and idempotency."""

    def __init__(self, tag: str) -> None:
        super().__init__(APPSTRATE, tag)

    def on(
        self,
        method: str,
        path: str,
        permission: str | None,
        *,
        limit: int = 0,
        once: bool = False,
        **options: Any,
    ) -> Callable[[H], H]:
        """Declare a handler; `once` honours an Idempotency-Key, `errors` are statuses besides those of `refusals`."""
        described = _documented(path, permission, limit, once, options)
        asks = permission if limit and not options.get("late") else None
        if asks is not None:  # refusals count too, and show the caller its rate
            described = described | {"late": True}

        async def guarded(handler: Handler, call: Call) -> Response:
            if call.method == "POST" and call.state.stopping.is_set():
                raise Unavailable(
                    "This server is shutting down; try again.", code="shutting_down", retry_after=2
                )
            if limit:
                await throttle(call, limit)
            if asks is not None:
                require(call.principal, asks)
            return await (idempotency.once(call, handler) if once else handler(call))

        return super().on(method, path, permission, around=guarded, **described)


def _documented(
    path: str, permission: str | None, limit: int, once: bool, options: dict[str, Any]
) -> dict[str, Any]:
    if permission is None:
        return options  # open to all callers: none of these headers is read
    keyed = ("Idempotency-Key",) if once else ()
    headers = (*options.get("headers", ()), *HEADERS, *keyed)
    statuses = refusals(path, options | {"headers": headers}) | {503, *((429,) if limit else ())}
    return options | {"errors": sorted(statuses), "headers": headers}


async def throttle(call: Call, limit: int) -> None:
    """Count the call; `TooManyRequests` beyond `limit` a minute. Who calls and the concrete path count apart."""
    who = call.principal
    caller = f"{who.org_id}/{who.key_id or who.actor}"  # a token's subject may be in several organisations
    status = await call.state.rates.hit(caller, f"{call.method} {call.path}", limit)
    call.response_headers.update(status.headers())
    if not status.allowed:
        raise TooManyRequests(
            "Too many requests. Please try again shortly.", code="rate_limited", retry_after=status.reset_s
        )


def when(instant: float | None) -> str | None:
    """Epoch seconds as JavaScript writes a time: UTC, to the millisecond."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def bounded(call: Call, name: str, default: int, most: int | None = 100, least: int = 1) -> int:
    """A whole number of the query string; anything out of range silently is the default (section 9)."""
    text = parameter(call, name) or ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    return number if least <= number and (most is None or number <= most) else default


def parameter(call: Call, name: str) -> str | None:
    """A parameter of the query string; `InvalidRequest` for one that holds NUL."""
    given = parse_qs(call.scope["query_string"].decode("latin-1"), errors="replace").get(name)
    if given and "\0" in given[-1]:
        raise InvalidRequest("NUL characters are refused.", field=name)
    return given[-1] if given else None


def instant_of(text: str, field: str) -> float:
    """An RFC 3339 date-time (without a zone: UTC) in epoch seconds; `InvalidRequest`."""
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        message = f"{field} is an RFC 3339 date-time such as 2026-01-31T12:00:00Z."
        raise InvalidRequest(message, field=field) from None


def fitted(items: Iterable[dict[str, Any]], instead: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All items of a list that its contract gives no pages. Once the fields that `instead` names hold more than
    `pages.MOST_BYTES` together, as JSON, those larger than `pages.SMALL` are replaced by its values."""
    left, found = pages.MOST_BYTES, []
    for item in items:
        for name, replacement in instead.items():
            size = len(orjson.dumps(item.get(name), option=orjson.OPT_NON_STR_KEYS, default=str))
            if size > left and size > pages.SMALL:
                item = item | {name: replacement}  # noqa: PLW2901 - the caller's own stays as it is
            else:
                left -= size
        found.append(item)
    return found
