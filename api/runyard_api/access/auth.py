"""Who calls: API keys and JWT bearers become a principal of one organisation.

Authenticator ── KeyRing   ry_… and ask_… keys, looked up by hash, remembered for a moment
              └─ Tokens    JWT bearers (runyard_api.access.tokens)
CookieSessions             people who signed in (runyard_api.access.cookies)
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from runyard_api.batched_reads import Reader
from runyard_common.credentials.rules import documents
from runyard_common.identity.queries import identity
from runyard_common.identity.queries.identity import OrganisationRow, PresentedKey
from runyard_common.identity.rules.roles import Role, granted, weaker
from runyard_common.identity.service.identity import hash_of
from runyard_common.values.errors import Forbidden, RunyardError, Unauthorized
from runyard_common.webhooks.rules.receivers import origin_of

KEY_PREFIXES: Final = ("ry_", "ask_")
#: How long a key is remembered, in seconds: how late another process's revocation may bite.
REMEMBERED: Final = 2.0
_MOST_REMEMBERED: Final = 20_000
_LONGEST_BEARER: Final = 16_384


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, for which organisation, and what it may do. `actor` is how logs and rows name it."""

    org_id: str
    actor: str  # key:<id>, user:<id>, jwt:<sub>; see runyard_common.identity.rules.actors
    role: Role
    permissions: frozenset[str]
    key_id: str | None = None
    user_id: str | None = None
    scopes: tuple[str, ...] | None = None
    application_id: str | None = None

    def may(self, permission: str) -> bool:
        """Whether it has this permission (``resource:action``)."""
        return permission in self.permissions


def url_for(principal: Principal, url: str) -> str:
    """The URL of a webhook or callback as the principal may see it: whole if it may write webhooks."""
    return url if principal.may("webhooks:write") else origin_of(url)


def input_for(principal: Principal, given: Any) -> Any:
    """A run's input as the principal may see it: its callback's URL whole to those who may write webhooks, those of
    its MCP servers to those who may write agents."""
    options: Any = given.get("options") if isinstance(given, dict) else None
    if not isinstance(options, dict):
        return given
    return given | {"options": options_for(principal, options, "webhooks:write")}


def options_for(principal: Principal, options: dict[str, Any], permission: str) -> dict[str, Any]:
    """A run's options, with the callback's URL whole to those who have the permission: see `input_for`."""
    hidden = {"callback"} if not principal.may(permission) else set()
    hidden |= {"mcp_servers"} if not principal.may("agents:write") else set()
    named = {name: options[name] for name in hidden & options.keys()}
    return options | documents.origins_only(named) if named else options


def manifest_for(principal: Principal, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest that the organisation may see, as the principal may: its URLs whole to those who may write agents."""
    return manifest if principal.may("agents:write") else documents.origins_only(manifest)


def require(principal: Principal, permission: str) -> None:
    """`Forbidden` missing_permission unless the principal may."""
    if not principal.may(permission):
        cause = (
            "its scopes leave it out"
            if principal.scopes is not None
            else f"the role {principal.role} does not grant it"
        )
        raise Forbidden(
            f"This needs the permission {permission}; {cause}.",
            code="missing_permission",
            permission=permission,
        )


@dataclass(slots=True)
class _Known:
    answer: Principal | RunyardError
    until: float
    expires_at: float | None = None


@dataclass(slots=True)
class KeyRing:
    """Looks keys up. `forget` drops what is remembered of a key, in this process, at once."""

    reader: Reader
    _known: dict[str, _Known] = field(default_factory=dict)
    _used: dict[str, float] = field(default_factory=dict)

    async def principal(self, key: str) -> Principal:
        """Who holds this key; `Unauthorized` for an unknown, expired or revoked one."""
        digest = hash_of(key)
        known = self._known.get(digest)
        now = time.monotonic()
        if known is None or known.until < now:
            known = await self._look_up(digest, now)
        if isinstance(known.answer, RunyardError):
            raise known.answer
        now = self.reader.db.clock.now()
        if known.expires_at is not None and known.expires_at <= now:
            raise Unauthorized("This key has expired; make a new one.", code="key_expired")
        assert known.answer.key_id is not None
        self._used[known.answer.key_id] = now
        return known.answer

    def forget(self, key_hash: str) -> None:
        """Drop this key from the cache: its next use looks it up."""
        self._known.pop(key_hash, None)

    def forget_all(self) -> None:
        """Drop every key from the cache: a role was changed."""
        self._known.clear()

    def drain_used(self) -> dict[str, float]:
        """When keys were last used (epoch seconds), since the last call."""
        used, self._used = self._used, {}
        return used

    async def _look_up(self, digest: str, now: float) -> _Known:
        row = await self.reader.call(_keys, digest)
        known = _Known(_judge(row), now + REMEMBERED, row.expires_at if row else None)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = known
        return known


def _keys(conn: Connection, digests: Sequence[str]) -> list[PresentedKey | None]:
    return [identity.key_by_hash(conn, digest) for digest in digests]


def _judge(row: PresentedKey | None) -> Principal | RunyardError:
    if row is None:
        return Unauthorized("This key is unknown.", code="key_unknown")
    if row.revoked_at is not None:
        return Unauthorized("This key was revoked.", code="key_revoked")
    if not row.org_active:
        return Unauthorized("This key's organisation is deactivated.", code="organisation_inactive")
    role = Role(row.role)
    if row.person_id is not None:
        if row.person_role is None:
            return Unauthorized(
                "The person behind this key has left the organisation; make a new key.", code="key_orphaned"
            )
        role = weaker(role, Role(row.person_role))
    scopes = row.scopes
    return Principal(
        org_id=row.org_id,
        actor=f"key:{row.id}",
        role=role,
        permissions=granted(role, scopes),
        key_id=row.id,
        scopes=None if scopes is None else tuple(scopes),
        application_id=row.application_id,
    )


class Authenticator:
    """Reads the Authorization header; `Unauthorized` names what is wrong with it."""

    def __init__(self, keys: KeyRing, tokens: Callable[[str], Awaitable[Principal]]) -> None:
        self.keys = keys
        self._tokens = tokens

    async def bearer(self, header: str | None) -> Principal:
        if header is None:
            raise Unauthorized(
                "Send an API key or a token: Authorization: Bearer <key>.", code="missing_credentials"
            )
        scheme, _, credential = header.partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential or len(credential) > _LONGEST_BEARER:
            raise Unauthorized(
                "The Authorization header is not of the form Bearer <key>.", code="bad_credentials"
            )
        if credential.startswith(KEY_PREFIXES):
            return await self.keys.principal(credential)
        if credential.count(".") == 2:
            return await self._tokens(credential)
        raise Unauthorized("This is neither an API key of this server nor a JWT.", code="key_unknown")


def is_credential(header: str | None) -> bool:
    """Whether an Authorization header holds what a key or token of this server looks like, good or bad."""
    scheme, _, credential = (header or "").partition(" ")
    credential = credential.strip()
    return scheme.lower() == "bearer" and (credential.startswith(KEY_PREFIXES) or credential.count(".") == 2)


def check_organisation(who: Principal, wanted: str | None) -> None:
    """`Forbidden` wrong_organisation when X-Org-Id names another organisation than the credentials'."""
    if wanted is not None and wanted != who.org_id:
        raise Forbidden(
            "These credentials belong to another organisation than X-Org-Id names.",
            code="wrong_organisation",
            field="X-Org-Id",
        )


def organisations(conn: Connection, org_ids: Sequence[str]) -> list[OrganisationRow | None]:
    """Organisations by id, in the order asked."""
    return [identity.organisation(conn, org_id) for org_id in org_ids]
