"""Who calls: API keys and JWT bearers become a principal of one organisation.

Authenticator ── KeyRing   ry_… and ask_… keys, looked up by hash, remembered until their organisation changes
              └─ Tokens    JWT bearers (runyard_api.access.tokens)
CookieSessions             people who signed in (runyard_api.access.cookies)
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from runyard_api.batched_reads import Reader
from runyard_common.credentials.rules import documents
from runyard_common.database.config_memory import Known
from runyard_common.identity.queries import config_versions, identity
from runyard_common.identity.queries.identity import OrganisationRow, PresentedKey
from runyard_common.identity.rules.erasing import closed, is_erasing
from runyard_common.identity.rules.roles import Role, granted, weaker
from runyard_common.identity.service.identity import hash_of
from runyard_common.values.errors import Forbidden, RunyardError, Unauthorized
from runyard_common.webhooks.rules.receivers import origin_of

V = TypeVar("V")
KEY_PREFIXES: Final = ("ry_", "ask_")
#: How long a refusal of a key is remembered, in seconds.
REMEMBERED: Final = 2.0
_MOST_REMEMBERED: Final = 20_000
_LONGEST_BEARER: Final = 16_384


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, for which organisation, and what it may do. `actor` is how logs and rows name it.

    `configured_at` is the number of the organisation's configuration at which that was read; None for sign-ins, which
    are remembered for a moment.
    """

    org_id: str
    actor: str  # key:<id>, user:<id>, jwt:<sub>; see runyard_common.identity.rules.actors
    role: Role
    permissions: frozenset[str]
    key_id: str | None = None
    user_id: str | None = None
    scopes: tuple[str, ...] | None = None
    application_id: str | None = None
    configured_at: int | None = field(default=None, compare=False)

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


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who holds a key, and until when (epoch seconds) it may be used."""

    principal: Principal
    expires_at: float | None


@dataclass(slots=True)
class KeyRing:
    """Looks keys up. One that counts is remembered until the number of its organisation's configuration is seen to
    have changed: that it has not is for the request to check."""

    reader: Reader
    _orgs: dict[str, str] = field(default_factory=dict)  # by hash
    _refused: dict[str, tuple[RunyardError, float]] = field(default_factory=dict)
    _used: dict[str, float] = field(default_factory=dict)

    async def principal(self, key: str) -> Principal:
        """Who holds this key; `Unauthorized` for an unknown, expired or revoked one."""
        digest = hash_of(key)
        org_id = self._orgs.get(digest)
        known = None if org_id is None else self.reader.db.memory.get(org_id, (_KEY, digest))
        holder: _Holder = await self._look_up(digest) if known is None else known.value
        now = self.reader.db.clock.now()
        if holder.expires_at is not None and holder.expires_at <= now:
            raise Unauthorized("This key has expired; make a new one.", code="key_expired")
        assert holder.principal.key_id is not None
        self._used[holder.principal.key_id] = now
        return holder.principal

    def forget(self, key_hash: str) -> None:
        """Look this key up again at its next use."""
        self._orgs.pop(key_hash, None)
        self._refused.pop(key_hash, None)

    def forget_all(self) -> None:
        """Look every key up again: a role was changed."""
        self._orgs.clear()
        self._refused.clear()

    def drain_used(self) -> dict[str, float]:
        """When keys were last used (epoch seconds), since the last call."""
        used, self._used = self._used, {}
        return used

    async def _look_up(self, digest: str) -> _Holder:
        refusal, until = self._refused.get(digest, (None, 0.0))
        if refusal is not None and until > time.monotonic():
            raise refusal
        row = await self.reader.call(_keys, digest)
        answer = _judge(row)
        if isinstance(answer, RunyardError):
            _put(self._refused, digest, (answer, time.monotonic() + REMEMBERED))
            raise answer
        assert row is not None
        holder = _Holder(answer, row.expires_at)
        _put(self._orgs, digest, row.org_id)
        self.reader.db.memory.put(row.org_id, (_KEY, digest), Known(row.configured_at, holder))
        return holder


_KEY: Final = "key"


def _put(known: dict[str, V], digest: str, value: V) -> None:
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    known[digest] = value


def _keys(conn: Connection, digests: Sequence[str]) -> list[PresentedKey | None]:
    return [identity.key_by_hash(conn, digest) for digest in digests]


def _judge(row: PresentedKey | None) -> Principal | RunyardError:
    if row is None:
        return Unauthorized("This key is unknown.", code="key_unknown")
    if row.revoked_at is not None:
        return Unauthorized("This key was revoked.", code="key_revoked")
    if (shut := closed(row.org_active, is_erasing(row.org_settings), "This key's organisation")) is not None:
        return shut
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
        configured_at=row.configured_at,
    )


def is_still(conn: Connection, who: Principal) -> bool:
    """Whether the caller may do now what it might when it was looked up. Sign-ins are remembered for a moment."""
    if who.key_id is not None:
        return _judge(identity.presented_key(conn, who.key_id)) == who
    if who.configured_at is None:
        return True
    organisation = identity.organisation(conn, who.org_id)
    return organisation is not None and organisation.active and not is_erasing(organisation.settings)


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


def organisations(conn: Connection, org_ids: Sequence[str]) -> list[tuple[int, OrganisationRow | None]]:
    """Organisations by id, in the order asked, each with the number of its configuration."""
    numbers = config_versions.numbers(conn, set(org_ids))
    return [(numbers[org_id], identity.organisation(conn, org_id)) for org_id in org_ids]
