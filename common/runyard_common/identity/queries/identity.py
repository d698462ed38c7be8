"""Organisations, their API keys, and the audit log of what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from runyard_common.database import pages, rows
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import config_versions
from runyard_common.identity.rules.actors import Actor
from runyard_common.tables.query import ApiKey, Audit, Member, Organisation
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonObject

_KEY = ApiKey.__table__.c
_ORG = Organisation.__table__.c
_AUDIT = Audit.__table__.c
_MEMBER = Member.__table__.c


@dataclass(frozen=True, slots=True)
class OrganisationRow:
    """A tenant, as `runyard_common.identity.tables.Organisation` describes it."""

    id: str
    name: str
    created_at: float
    weight: float = 1.0
    active: bool = True
    settings: JsonObject | None = None
    balance_micros: int | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key by which programs call, as `runyard_common.identity.tables.ApiKey` describes it."""

    id: str
    org_id: str
    name: str
    prefix: str
    key_hash: str
    role: str
    scopes: list[str] | None
    created_at: float
    created_by: str | None = None
    person_id: str | None = None
    application_id: str | None = None
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True)
class PresentedKey(KeyRow):
    """A key that a caller presents; `person_role` is what the person behind it may now, None without a place.

    `configured_at` is the number of its organisation's configuration.
    """

    org_active: bool = True
    org_settings: JsonObject | None = None
    person_role: str | None = None
    configured_at: int = 0


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, as `runyard_common.identity.tables.Audit` describes it."""

    id: str
    org_id: str
    actor: str
    front: str | None
    action: str
    object_id: str
    data: Any
    at: float


def organisation(conn: Connection, org_id: str) -> OrganisationRow | None:
    """One organisation by id."""
    return rows.first(conn, select(*_ORG).where(_ORG.id == org_id), OrganisationRow)


def organisation_named(conn: Connection, name: str) -> OrganisationRow | None:
    """The oldest organisation of this name."""
    query = select(*_ORG).where(_ORG.name == name).order_by(_ORG.created_at, _ORG.id)
    return rows.first(conn, query.limit(1), OrganisationRow)


def insert_organisation(tx: Tx, name: str, org_id: str | None = None) -> str:
    """Store a new organisation; its id."""
    made = OrganisationRow(org_id or uuid7(), name, tx.now)
    tx.conn.execute(insert(Organisation), rows.values(made))
    return made.id


def organisations(conn: Connection, limit: int, before: str | None = None) -> list[OrganisationRow]:
    """Every organisation, newest first, older than the id `before`."""
    query = select(*_ORG) if before is None else select(*_ORG).where(_ORG.id < before)
    return rows.every(conn, query.order_by(_ORG.id.desc()).limit(limit), OrganisationRow)


def update_organisation(tx: Tx, org_id: str, **values: Any) -> None:
    """Change columns of an organisation."""
    tx.conn.execute(update(Organisation).where(_ORG.id == org_id).values(**values))


def lock_organisation(tx: Tx, org_id: str) -> None:
    """Let no other transaction change the organisation until the commit."""
    tx.conn.execute(select(_ORG.id).where(_ORG.id == org_id).with_for_update())


def out_of_balance(conn: Connection, org_ids: Iterable[str]) -> set[str]:
    """Those of these organisations that pay in advance and have nothing left."""
    query = select(_ORG.id).where(_ORG.id.in_(list(org_ids)), _ORG.balance_micros <= 0)
    return set(conn.execute(query).scalars())


def key_by_hash(conn: Connection, key_hash: str) -> PresentedKey | None:
    """One key by the SHA-256 (hex) of the whole key; revoked ones too."""
    return _presented(conn, _KEY.key_hash == key_hash)


def presented_key(conn: Connection, key_id: str) -> PresentedKey | None:
    """One key as it would be presented now; revoked ones too."""
    return _presented(conn, _KEY.id == key_id)


def _presented(conn: Connection, which: Any) -> PresentedKey | None:
    behind = (_MEMBER.org_id == _KEY.org_id) & (_MEMBER.user_id == _KEY.person_id)
    query = (
        select(
            *_KEY,
            _ORG.active.label("org_active"),
            _ORG.settings.label("org_settings"),
            _MEMBER.role.label("person_role"),
            config_versions.number_of(_KEY.org_id).label("configured_at"),
        )
        .join(Organisation.__table__, _ORG.id == _KEY.org_id)
        .outerjoin(Member.__table__, behind)
        .where(which)
    )
    return rows.first(conn, query, PresentedKey)


def key(scope: OrgScope, key_id: str) -> KeyRow | None:
    """One key of an organisation."""
    query = select(*_KEY).where(_KEY.id == key_id, _KEY.org_id == scope.org_id)
    return rows.first(scope.conn, query, KeyRow)


def keys(scope: OrgScope, limit: int, before: str | None = None, with_revoked: bool = False) -> list[KeyRow]:
    """Keys of an organisation, newest first, older than the id `before`."""
    query = select(*_KEY).where(_KEY.org_id == scope.org_id)
    if not with_revoked:
        query = query.where(_KEY.revoked_at.is_(None))
    if before is not None:
        query = query.where(_KEY.id < before)
    return rows.every(scope.conn, query.order_by(_KEY.id.desc()).limit(limit), KeyRow)


def insert_key(tx: Tx, new: KeyRow) -> None:
    """Store a new key."""
    tx.conn.execute(insert(ApiKey), rows.values(new))


def revoke_key(tx: Tx, org_id: str, key_id: str) -> KeyRow | None:
    """Revoke a key that is not revoked yet; the key, or None."""
    query = (
        update(ApiKey)
        .where(_KEY.id == key_id, _KEY.org_id == org_id, _KEY.revoked_at.is_(None))
        .values(revoked_at=tx.now)
        .returning(*_KEY)
    )
    return rows.first(tx.conn, query, KeyRow)


def revoke_keys_of(tx: Tx, org_id: str, application_id: str) -> list[str]:
    """Revoke every key of an application; their hashes."""
    query = (
        update(ApiKey)
        .where(_KEY.org_id == org_id, _KEY.application_id == application_id, _KEY.revoked_at.is_(None))
        .values(revoked_at=tx.now)
        .returning(_KEY.key_hash)
    )
    return list(tx.conn.execute(query).scalars())


def note_use(tx: Tx, used: Mapping[str, float]) -> None:
    """Set when these keys (by id) were last used, in epoch seconds; never backward."""
    statement = (
        update(ApiKey)
        .where(_KEY.id == bindparam("key_id"))
        .where((_KEY.last_used_at.is_(None)) | (_KEY.last_used_at < bindparam("at")))
        .values(last_used_at=bindparam("at"))
    )
    if used:
        tx.conn.execute(statement, [{"key_id": key_id, "at": at} for key_id, at in sorted(used.items())])


def audit(tx: Tx, org_id: str, actor: str, action: str, object_id: str, data: Any = None) -> None:
    """Note that `actor` (see `runyard_common.identity.rules.actors`) did `action` (noun.verb) to an object."""
    front = actor.front if isinstance(actor, Actor) else None
    entry = AuditEntry(uuid7(), org_id, str(actor), front, action, object_id, data, tx.now)
    tx.conn.execute(insert(Audit), rows.values(entry))


#: Times are sent rounded to the microsecond: a time that was sent selects the entry it came with.
_ROUNDING = 5e-7


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries of the audit log. `action` is one (key.create) or a noun (key); instants are epoch seconds."""

    actor: str | None = None
    action: str | None = None
    object_id: str | None = None
    front: str | None = None
    since: float | None = None
    until: float | None = None


def audit_page(
    scope: OrgScope, limit: int, before: str | None = None, wanted: AuditFilter | None = None
) -> Page[AuditEntry]:
    """The audit log, newest first, older than the entry `before`; fewer, and `more`, where entries are large."""
    query = select(*_AUDIT).where(_AUDIT.org_id == scope.org_id, *_chosen(wanted or AuditFilter()))
    if before is not None:
        query = query.where(_AUDIT.id < before)
    ordered = query.order_by(_AUDIT.id.desc()).limit(limit)
    return pages.bounded_rows(scope.conn, ordered, "id", ("data",), kind=AuditEntry)


def _chosen(wanted: AuditFilter) -> list[Any]:
    found: list[Any] = []
    for column, value in (
        (_AUDIT.actor, wanted.actor), (_AUDIT.object_id, wanted.object_id), (_AUDIT.front, wanted.front),
    ):  # fmt: skip
        if value is not None:
            found.append(column == value)
    if wanted.action is not None:
        exact = "." in wanted.action
        found.append(
            _AUDIT.action == wanted.action
            if exact
            else _AUDIT.action.startswith(wanted.action + ".", autoescape=True)
        )
    if wanted.since is not None:
        found.append(_AUDIT.at >= wanted.since - _ROUNDING)
    if wanted.until is not None:
        found.append(_AUDIT.at < wanted.until - _ROUNDING)
    return found
