"""Organisations and keys: the first start, and creating, listing and revoking API keys."""

from __future__ import annotations

import hashlib
import secrets as randomness
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from runyard_common.credentials.queries import key_files
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.transaction import Store, Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.queries.identity import KeyRow
from runyard_common.identity.rules.actors import JWT, key_of, person_of
from runyard_common.identity.rules.roles import Role, check_scopes, exceeds
from runyard_common.identity.service import caps
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError, Forbidden, InvalidRequest, NotFound
from runyard_common.values.ids import uuid7

DEFAULT: Final = "default"
PREFIX: Final = "ry_"
#: How long a key made with a token lives at most, in seconds.
TOKEN_KEYS: Final = 30 * 86_400.0
ADMIN_KEY, JWT_SECRET, SECRET_KEY = "admin.key", key_files.JWT_SECRET, key_files.SECRET_KEY
secret_key = key_files.secret_key
sealer = key_files.sealer


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the first start made or found. `admin_key` is set only where this call made it: print it once."""

    org_id: str
    sealer: Sealer
    admin_key: str | None
    admin_key_file: Path


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only time its whole text is known."""

    id: str
    key: str
    row: KeyRow


def bootstrap(store: Store, settings: Settings) -> Bootstrap:
    """Make what every installation has: organisation `default`, an admin key, and the two secrets.

    Any number of processes may call it at once. What exists is left alone: a home that lost its admin key
    gets no other by itself (see `renew_admin_key`). Raises `ConfigurationError` for a home that cannot be
    written.
    """
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        jwt_secret(settings)
        key = sealer(settings)
        with store.read() as conn:
            found = identity.organisation_named(conn, DEFAULT)
        if found is not None:
            return Bootstrap(found.id, key, None, home / ADMIN_KEY)
        with store.begin() as tx:
            return _bootstrap(tx, home, key)
    except OSError as error:
        raise ConfigurationError(
            f"RUNYARD_HOME {home} cannot be written: {error.strerror or error}.", field="RUNYARD_HOME"
        ) from None


def installation(store: Store) -> str | None:
    """The id of this installation, the same in all its processes; None before its first start."""
    with store.read() as conn:
        found = identity.organisation_named(conn, DEFAULT)
    return None if found is None else found.id


def _bootstrap(tx: Tx, home: Path, key: Sealer) -> Bootstrap:
    """Within one transaction, which on both databases lets one process in at a time."""
    _one_at_a_time(tx)
    found = identity.organisation_named(tx.conn, DEFAULT)
    if found is not None:
        return Bootstrap(found.id, key, None, home / ADMIN_KEY)
    org_id = identity.insert_organisation(tx, DEFAULT)
    return Bootstrap(org_id, key, renew_admin_key(tx, org_id, home), home / ADMIN_KEY)


def renew_admin_key(tx: Tx, org_id: str, home: Path) -> str:
    """Make an admin key and write it to its file in the home; the old one, if any, stays valid until revoked.

    Should the transaction fail after all, the file holds an unknown key, and the next start replaces it.
    """
    made = _insert(tx, org_id, KeyRequest("admin", Role.ADMIN), "system")
    key_files.write(home / ADMIN_KEY, made.key, replace=True)
    return made.key


def _one_at_a_time(tx: Tx) -> None:
    if tx.db.is_postgres:
        tx.conn.exec_driver_sql("SELECT pg_advisory_xact_lock(7093541027)")


def jwt_secret(settings: Settings) -> str:
    """The HS256 secret: the setting, or the one in the home, made when there is none.

    Raises `ConfigurationError` for one that is too short.
    """
    secret = settings.jwt_secret or key_files.kept(settings.home / JWT_SECRET, randomness.token_urlsafe(48))
    key_files.check_jwt_length(secret, settings)
    return secret


def hash_of(key: str) -> str:
    """What is kept of a key: its SHA-256, in hex. Keys are random, so no salt or stretching is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key to make. `scopes` None = all its role may; `expires_at` in epoch seconds."""

    name: str
    role: Role = Role.MEMBER
    scopes: list[str] | None = None
    expires_at: float | None = None
    application_id: str | None = None
    prefix: str = PREFIX


def create_key(
    tx: Tx, org_id: str, wanted: KeyRequest, actor: str, creator: Role, allowed: Iterable[str] | None = None
) -> NewKey:
    """Make a key that reaches no further than who makes it: its role, and the permissions `allowed` it.

    The person who signed in to make it, or to make the key it is made with, is its owner: their role bounds it.
    Errors: `Forbidden` role_exceeds_creator, `InvalidRequest` unknown_scope, expires_in_past or
    expires_too_late, `Conflict` too_many_keys.
    """
    if exceeds(wanted.role, creator):
        raise Forbidden(
            f"A key made by {creator.value} cannot have the role {wanted.role.value}.",
            code="role_exceeds_creator",
            field="role",
        )
    if wanted.expires_at is not None and wanted.expires_at <= tx.now:
        raise InvalidRequest("expires_at lies in the past.", code="expires_in_past", field="expires_at")
    if wanted.scopes is not None:
        check_scopes(wanted.scopes)
    scopes = wanted.scopes if allowed is None else _within(wanted.scopes, set(allowed))
    caps.check(tx, org_id, "keys")
    wanted = replace(wanted, expires_at=_until(tx, org_id, actor, wanted.expires_at))
    made = _insert(tx, org_id, replace(wanted, scopes=scopes), actor)
    identity.audit(tx, org_id, actor, "key.create", made.id, {"name": wanted.name, "role": wanted.role.value})
    return made


def _until(tx: Tx, org_id: str, actor: str, wanted: float | None) -> float | None:
    """When a key ends: one made with a token, behind which no account is known here, after `TOKEN_KEYS`; one made
    with such a key, or with another that expires and has no person behind it, no later than that."""
    maker = key_of(actor)
    most: float | None = None
    if actor.startswith(JWT):
        most = tx.now + TOKEN_KEYS
    elif maker is not None and (row := identity.key(tx.scope(org_id), maker)) and row.person_id is None:
        most = row.expires_at
    if most is None or (wanted is not None and wanted <= most):
        return wanted
    if wanted is not None:
        raise InvalidRequest(
            "A key made with a token lives 30 days at most, and none outlives the key it is made with; ask for less, "
            "or make it as a person who signed in.",
            code="expires_too_late",
            field="expires_at",
        )
    return most


def _person_behind(tx: Tx, org_id: str, actor: str) -> str | None:
    """The person whose role bounds what `actor` makes: itself, or the owner of the key it is."""
    key_id = key_of(actor)
    if key_id is None:
        return person_of(actor)
    maker = identity.key(tx.scope(org_id), key_id)
    return maker.person_id if maker else None


def _within(scopes: list[str] | None, allowed: set[str]) -> list[str]:
    """The scopes a creator with scopes of its own can give away; wanting none means wanting all of them."""
    if scopes is None:
        return sorted(allowed)
    beyond = [s for s in scopes if s not in allowed and not s.endswith(":*")]
    if beyond:
        raise Forbidden(
            f"Your own key may not {beyond[0]}, so a key made with it may not either.",
            code="scope_exceeds_creator",
            field="scopes",
        )
    starred = {s[:-1] for s in scopes if s.endswith(":*")}
    return sorted(
        {s for s in scopes if s in allowed} | {a for a in allowed if a.split(":")[0] + ":" in starred}
    )


def _insert(tx: Tx, org_id: str, wanted: KeyRequest, actor: str) -> NewKey:
    key = wanted.prefix + randomness.token_hex(24)
    row = KeyRow(
        id=uuid7(),
        org_id=org_id,
        name=wanted.name,
        prefix=key[: len(wanted.prefix) + 6],
        key_hash=hash_of(key),
        role=wanted.role.value,
        scopes=wanted.scopes,
        created_at=tx.now,
        created_by=str(actor),
        person_id=_person_behind(tx, org_id, actor),
        expires_at=wanted.expires_at,
        application_id=wanted.application_id,
    )
    identity.insert_key(tx, row)
    return NewKey(row.id, key, row)


def revoke_key(tx: Tx, org_id: str, key_id: str, actor: str) -> KeyRow:
    """Revoke a key: from the commit on new requests with it are refused, runs under way finish. The key.

    Error: `NotFound` key_not_found, also for one revoked before.
    """
    revoked = identity.revoke_key(tx, org_id, key_id)
    if revoked is None:
        raise NotFound("There is no such key.", code="key_not_found")
    identity.audit(tx, org_id, actor, "key.revoke", key_id)
    return revoked
