"""People who signed in: a cookie's token becomes a principal of the organisation they chose.

The browser sends a cookie with calls from pages of any site, so a method that changes something also needs
the sign-in's CSRF token in a header (or, where a contract has another header that only scripts set, that one), and
must not come from another site.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

from runyard_api.access.auth import REMEMBERED, Principal
from runyard_api.batched_reads import Reader
from runyard_common.identity.queries import logins, members
from runyard_common.identity.queries.logins import Use
from runyard_common.identity.rules.erasing import closed, is_erasing
from runyard_common.identity.rules.roles import Role, granted
from runyard_common.identity.service import logins as service
from runyard_common.identity.service.identity import hash_of
from runyard_common.identity.service.organisations import requires_second_factor
from runyard_common.settings import Settings
from runyard_common.values.errors import Forbidden, InvalidRequest, Unauthorized

NAME: Final = "runyard_session"
#: Over https the name itself makes browsers refuse one that another host, or plain http, tries to set.
SECURE_NAME: Final = "__Host-runyard_session"
CSRF_HEADER: Final = "X-CSRF-Token"
ORG_HEADER: Final = "X-Org-Id"
#: What a person of any role may do: see who they are, and end it.
ACCOUNT: Final = frozenset({"account:read", "account:write"})
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_MOST_REMEMBERED: Final = 10_000
_LONGEST_TOKEN: Final = 200


@dataclass(frozen=True, slots=True)
class Place:
    """An organisation a person belongs to."""

    id: str
    name: str
    role: Role
    active: bool
    second_factor_required: bool = False
    erasing: bool = False


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A sign-in under way. Instants are epoch seconds."""

    token_hash: str
    user_id: str
    email: str
    name: str
    csrf: str
    created_at: float
    expires_at: float
    must_change_password: bool
    second_factor_at: float | None  # since when the person has one
    method: str | None  # by which they signed in; None by password
    places: tuple[Place, ...]

    def lacks_second_factor(self, place: Place) -> bool:
        """Whether this organisation requires a second factor, and the person has none.

        Single sign-on counts as one: its provider decides which factors it asks for.
        """
        return place.second_factor_required and self.second_factor_at is None and self.method is None

    def principal(self, place: Place) -> Principal:
        """Who this person is in one of their organisations."""
        permissions = granted(place.role, None)
        return Principal(place.id, f"user:{self.user_id}", place.role, permissions, user_id=self.user_id)


@dataclass(slots=True)
class CookieSessions:
    """Looks sign-ins up by the hash of the cookie's token, and remembers them for a moment."""

    reader: Reader
    settings: Settings
    _known: dict[str, tuple[SignedIn | None, float]] = field(default_factory=dict)
    _used: dict[str, Use] = field(default_factory=dict)

    async def person(
        self, token: str, method: str, headers: Headers, entering: bool = False, csrf: bool = True
    ) -> SignedIn:
        """Who has this cookie. `entering`: for calls that finish a sign-in, or end it. Without `csrf` the CSRF token
        is not asked for: for calls that carry what no form of another site can, such as a header of their own.

        Errors: `Unauthorized` session_expired, `Forbidden` csrf_refused, password_change_needed (unless entering).
        """
        found = await self._look_up(hash_of(token)) if len(token) <= _LONGEST_TOKEN else None
        if found is None or found.expires_at <= self.reader.db.clock.now():
            raise Unauthorized("You are signed out; sign in again.", code="session_expired")
        check_same_site(method, headers, self.settings)
        if csrf and method not in _SAFE:
            _check_csrf(found, headers)
        if found.must_change_password and not entering:
            raise password_change_needed()
        self._used[found.token_hash] = service.used(found.created_at, self.reader.db.clock.now())
        return found

    async def known(self, token: str) -> SignedIn:
        """Who has this token, which was just made."""
        found = await self._look_up(hash_of(token))
        if found is None:
            raise Unauthorized("You are signed out; sign in again.", code="session_expired")
        return found

    async def _look_up(self, digest: str) -> SignedIn | None:
        known = self._known.get(digest)
        now = time.monotonic()
        if known is None or known[1] < now:
            known = (await self.reader.call(_signed_in, digest), now + REMEMBERED)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[digest] = known
        return known[0]

    def forget_all(self) -> None:
        """Drop all sign-ins from the cache: a person signed out, or a role was changed."""
        self._known.clear()

    def drain_used(self) -> dict[str, Use]:
        """The last uses of sign-ins since the last call, by hash."""
        used, self._used = self._used, {}
        return used


def password_change_needed() -> Forbidden:
    """The refusal of a password that another person chose, wherever it is used but for its change."""
    return Forbidden(
        "Another person chose your password: change it with POST /me/password first.",
        code="password_change_needed",
    )


def _signed_in(conn: Connection, digests: Sequence[str]) -> list[SignedIn | None]:
    return [_one(conn, digest) for digest in digests]


def _one(conn: Connection, digest: str) -> SignedIn | None:
    row = logins.get(conn, digest)
    if row is None:
        return None
    places = tuple(
        Place(
            place.id,
            place.name,
            Role(place.role),
            place.active,
            requires_second_factor(place.settings),
            is_erasing(place.settings),
        )
        for place in members.organisations_of(conn, row.user_id)
    )
    names = (
        "token_hash", "user_id", "email", "name", "csrf", "created_at", "expires_at", "must_change_password",
        "second_factor_at", "method",
    )  # fmt: skip
    known = {name: getattr(row, name) for name in names}
    # A password that another person chose restricts who signed in with it, not who came by single sign-on.
    known["must_change_password"] = row.must_change_password and row.method is None
    return SignedIn(**known, places=places)


def token_of(headers: Headers, *more: str) -> str | None:
    """The token in the request's cookies, ours or one of `more` names; None without one."""
    if "cookie" not in headers:
        return None
    given = cookie_parser(headers["cookie"])
    return next((given[name] for name in (SECURE_NAME, NAME, *more) if given.get(name)), None)


def place_of(person: SignedIn, wanted: str | None, needed: bool = False) -> Place:
    """The organisation a call is for; the only one needs no naming, unless it is `needed`.

    Errors: `InvalidRequest` organisation_needed, `Forbidden` not_a_member or second_factor_required,
    `Unauthorized` organisation_inactive or organisation_erased.
    """
    if wanted is None and (needed or len(person.places) > 1):
        raise InvalidRequest(
            "Name the organisation this call is for in X-Org-Id.",
            code="organisation_needed",
            field=ORG_HEADER,
        )
    place = next((place for place in person.places if wanted in (None, place.id)), None)
    if place is None:
        raise Forbidden("You are no member of this organisation.", code="not_a_member", field=ORG_HEADER)
    if (shut := closed(place.active, place.erasing, "This organisation")) is not None:
        raise shut
    if person.lacks_second_factor(place):
        raise Forbidden(
            "This organisation requires a second factor: enrol one with POST /me/second-factor, or on the console's "
            "account page.",
            code="second_factor_required",
        )
    return place


def check_same_site(method: str, headers: Headers, settings: Settings) -> None:
    """Refuse a changing method that a page of another site makes: `Forbidden` csrf_refused.

    Browsers declare it by Sec-Fetch-Site (W3C Fetch Metadata) and Origin (RFC 6454); other programs by neither.
    """
    if method in _SAFE:
        return
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _refused("Sec-Fetch-Site")
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, headers.get("host", ""), settings):
        raise _refused("Origin")


def _is_own(origin: str, host: str, settings: Settings) -> bool:
    """By host and port: we cannot know where TLS terminates."""
    try:
        found = urlsplit(origin)
        own = urlsplit(settings.public_url)
    except ValueError:
        return False
    return bool(found.netloc) and found.netloc.lower() in (host.lower(), own.netloc.lower())


def _check_csrf(person: SignedIn, headers: Headers) -> None:
    given = headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(given.encode(), person.csrf.encode()):
        raise _refused(CSRF_HEADER)


def _refused(header: str) -> Forbidden:
    return Forbidden(
        f"A browser's sign-in counts only for pages of this server that send {CSRF_HEADER}, as GET /me returns it.",
        code="csrf_refused",
        field=header,
    )


def is_https(scope: Any, settings: Settings) -> bool:
    """Whether the caller reaches this server over https."""
    return scope["scheme"] == "https" or settings.public_url.startswith("https:")


def set_cookie(response: Response, token: str, secure: bool) -> None:
    """Let the browser keep the token: for this server's own pages alone, and out of reach of scripts."""
    response.set_cookie(
        SECURE_NAME if secure else NAME, token, max_age=int(service.LONGEST), path="/",
        secure=secure, httponly=True, samesite="strict",
    )  # fmt: skip


def clear_cookie(response: Response, secure: bool) -> None:
    """Let the browser forget the token."""
    response.delete_cookie(
        SECURE_NAME if secure else NAME, path="/", secure=secure, httponly=True, samesite="strict"
    )
