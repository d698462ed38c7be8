"""JWT bearers: HS256 with the installation's secret, RS256 or ES256 with the keys of a JWKS address.

Which algorithm a token may use follows from where its key comes from, never from the token alone: a token
signed with a public key taken for a secret, or with none, is refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
import structlog

from runyard_api.access.auth import Principal, organisations
from runyard_api.access.published_keys import PublishedKeys
from runyard_api.batched_reads import Reader
from runyard_common.identity.rules.erasing import closed, is_erasing
from runyard_common.identity.rules.jwt_members import DuplicateMember, check_members
from runyard_common.identity.rules.roles import granted, strongest
from runyard_common.settings import Settings
from runyard_common.values.errors import Unauthorized
from runyard_common.values.ids import is_uuid

log = structlog.get_logger("runyard.tokens")

LEEWAY: Final = 30
_SECRET_ALGORITHMS: Final = ["HS256"]
_JWKS_ALGORITHMS: Final = ["RS256", "ES256"]
_REMEMBERED: Final = 5.0
_MOST_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class Tokens:
    """Verifies bearers. `secret` is empty where only the JWKS address counts."""

    settings: Settings
    secret: str
    reader: Reader
    _published: PublishedKeys | None = None
    _known: dict[str, tuple[Principal, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.settings.jwt_jwks_url:
            self._published = PublishedKeys(self.settings.jwt_jwks_url)
            if not (self.settings.jwt_audience and self.settings.jwt_issuer):
                log.warning(
                    "Every token of this address counts: set RUNYARD_JWT_ISSUER and RUNYARD_JWT_AUDIENCE",
                    action="jwks",
                )

    async def __call__(self, token: str) -> Principal:
        """The caller that the token names; `Unauthorized` gives the reason why it does not count."""
        known = self._known.get(token)
        if known is not None and known[1] > time.monotonic() and self._counts(known[0]):
            return known[0]
        claims = await self._claims(token)
        principal = await self._principal(claims)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        seconds = min(_REMEMBERED, float(claims["exp"]) + LEEWAY - time.time())
        self._known[token] = (principal, time.monotonic() + seconds)
        return principal

    def _counts(self, principal: Principal) -> bool:
        return self.reader.db.memory.number(principal.org_id) == principal.configured_at

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            if algorithm in _SECRET_ALGORITHMS and self.secret:
                return self._decode(token, self.secret, _SECRET_ALGORITHMS)
            if algorithm in _JWKS_ALGORITHMS and self._published is not None:
                if not isinstance(key_id, str):
                    raise Unauthorized("The token does not count: it names no key id.", code="token_invalid")
                key = await self._published.get(key_id)
                return self._decode(token, key.key, [str(algorithm)])
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise Unauthorized(f"The token does not count: {_reason(error)}.", code=_code(error)) from None
        raise Unauthorized("The token's algorithm is not accepted here.", code="token_algorithm")

    def _decode(self, token: str, key: Any, algorithms: list[str]) -> dict[str, Any]:
        settings = self.settings
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=algorithms,
            audience=settings.jwt_audience or None,
            issuer=settings.jwt_issuer or None,
            leeway=LEEWAY,
            options={
                "require": ["exp", "sub"],
                "verify_aud": bool(settings.jwt_audience),
                "verify_iss": bool(settings.jwt_issuer),
            },
        )
        check_members(token)
        self._check_expiry(float(claims["exp"]))
        return _named_as_here(claims)

    def _check_expiry(self, at: float) -> None:
        if not at > 0:
            raise jwt.DecodeError("exp is no date")
        most = self.settings.jwt_max_seconds
        if at > time.time() + most + LEEWAY:
            raise Unauthorized(
                f"The token lives too long: its claim exp is at most {most:g} seconds from now "
                "(RUNYARD_JWT_MAX_SECONDS). Make tokens that end sooner, or an API key.",
                code="token_lives_too_long",
            )

    async def _principal(self, claims: dict[str, Any]) -> Principal:
        org_id, subject, roles = claims["org"], claims["sub"], claims.get("roles")
        if isinstance(roles, str):
            roles = [roles]
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Unauthorized("The token's claim roles is missing or no list of names.", code="token_claims")
        role = strongest(roles)
        if role is None:
            raise Unauthorized(
                "The token's claim roles names none of owner, admin, member, viewer.", code="token_claims"
            )
        if not isinstance(subject, str) or not 0 < len(subject) <= 59 or not subject.isprintable():
            raise Unauthorized("The token's claim sub is no text of 1 to 59 characters.", code="token_claims")
        number, organisation = 0, None
        if isinstance(org_id, str) and is_uuid(org_id):
            number, organisation = await self.reader.call(organisations, org_id)
        if organisation is None:
            raise Unauthorized("The token's claim org names no organisation.", code="token_organisation")
        shut = closed(organisation.active, is_erasing(organisation.settings), "The token's organisation")
        if shut is not None:
            raise shut
        self.reader.db.memory.saw(organisation.id, number)
        return Principal(
            org_id=organisation.id,
            actor=f"jwt:{subject}",
            role=role,
            permissions=granted(role, None),
            user_id=subject,
            configured_at=number,
        )


def _named_as_here(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims with `org` and `roles` under these names; `orgId` and `role` may replace them."""
    for name, other in (("org", "orgId"), ("roles", "role")):
        if name in claims and other in claims and _same(claims[name]) != _same(claims[other]):
            raise Unauthorized(
                f"The token's claims {name} and {other} contradict each other; send one of them.",
                code="token_claims",
            )
        if name not in claims and other in claims:
            claims[name] = claims[other]
    if "org" not in claims:
        raise jwt.MissingRequiredClaimError("org")
    return claims


def _same(value: Any) -> Any:
    """A claim, so that one name and a list of it alone are the same."""
    names = value if isinstance(value, list) else [value]
    return sorted(map(repr, names))


def _code(error: Exception) -> str:
    return "token_expired" if isinstance(error, jwt.ExpiredSignatureError) else "token_invalid"


def _reason(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"its claim {error.claim} is missing"
    if isinstance(error, DuplicateMember):
        return str(error)
    named = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.InvalidIssuedAtError: "its claim iat is no time in the past",
        jwt.InvalidAudienceError: "it was made for another audience",
        jwt.InvalidIssuerError: "it comes from another issuer",
        jwt.InvalidSignatureError: "its signature does not fit",
    }
    return next((text for kind, text in named.items() if isinstance(error, kind)), "it cannot be read")
