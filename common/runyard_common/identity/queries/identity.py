"""Organisations, their API keys, and the audit log of what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from runyard_common.database import pages
from runyard_common.database.pages import Page
from runyard_common.database.transaction import Tx
from runyard_common.identity.rules.actors import Actor
from runyard_common.tables.query import ApiKey, Audit, Member, Organisation
from runyard_common.values.ids import uuid7

_KEY = ApiKey.__table__.c
_ORG = Organisation.__table__.c
_AUDIT = Audit.__table__.c
_MEMBER = Member.__table__.c
Row = dict[str, Any]


def _one(conn: Connection, query: Any) -> Row | None:
    row = conn.execute(query).first()
    return dict(row._mapping) if row else None


def organisation(conn: Connection, org_id: str) -> Row | None:
    """One organisation by id."""
    return _one(conn, select(*_ORG).where(_ORG.id == org_id))


def organisation_named(conn: Connection, name: str) -> Row | None:
    """The oldest organisation of this name."""
    query = select(*_ORG).where(_ORG.name == name).order_by(_ORG.created_at, _ORG.id)
    return _one(conn, query.limit(1))


def insert_organisation(tx: Tx, name: str, org_id: str | None = None) -> str:
    """Store a new organisation; its id."""
    org_id = org_id or uuid7()
    tx.conn.execute(
        insert(Organisation),
        {
            "id": org_id,
            "name": name,
            "weight": 1.0,
            "active": True,
            "settings": None,
            "balance_micros": None,
            "created_at": tx.now,
        },
    )
    return org_id


def organisations(conn: Connection, limit: int, before: str | None = None) -> list[Row]:
    """Every organisation, newest first, older than the id `before`."""
    query = select(*_ORG) if before is None else select(*_ORG).where(_ORG.id < before)
    return [dict(row._mapping) for row in conn.execute(query.order_by(_ORG.id.desc()).limit(limit))]


def update_organisation(tx: Tx, org_id: str, values: dict[str, Any]) -> None:
    """Change columns of an organisation."""
    tx.conn.execute(update(Organisation).where(_ORG.id == org_id).values(**values))


def rename_organisation(tx: Tx, org_id: str, name: str) -> None:
    """Change an organisation's name."""
    tx.conn.execute(update(Organisation).where(_ORG.id == org_id).values(name=name))


def set_settings(tx: Tx, org_id: str, settings: dict[str, Any]) -> None:
    """Replace an organisation's settings."""
    tx.conn.execute(update(Organisation).where(_ORG.id == org_id).values(settings=settings or None))


def lock_organisation(tx: Tx, org_id: str) -> None:
    """Be alone with the organisation until the commit."""
    tx.conn.execute(select(_ORG.id).where(_ORG.id == org_id).with_for_update())


def out_of_balance(conn: Connection, org_ids: Iterable[str]) -> set[str]:
    """Those of these organisations that pay in advance and have nothing left."""
    query = select(_ORG.id).where(_ORG.id.in_(list(org_ids)), _ORG.balance_micros <= 0)
    return set(conn.execute(query).scalars())


def key_by_hash(conn: Connection, key_hash: str) -> Row | None:
    """One key by the SHA-256 (hex) of the whole key; revoked ones too.

    With `org_active`, and `person_role`: the role that the person behind it has now, None without a place.
    """
    behind = (_MEMBER.org_id == _KEY.org_id) & (_MEMBER.user_id == _KEY.person_id)
    query = (
        select(*_KEY, _ORG.active.label("org_active"), _MEMBER.role.label("person_role"))
        .join(Organisation.__table__, _ORG.id == _KEY.org_id)
        .outerjoin(Member.__table__, behind)
        .where(_KEY.key_hash == key_hash)
    )
    return _one(conn, query)


def key(conn: Connection, org_id: str, key_id: str) -> Row | None:
    """One key of an organisation."""
    return _one(conn, select(*_KEY).where(_KEY.id == key_id, _KEY.org_id == org_id))


def keys(
    conn: Connection, org_id: str, limit: int, before: str | None = None, with_revoked: bool = False
) -> list[Row]:
    """Keys of an organisation, newest first, older than the id `before`."""
    query = select(*_KEY).where(_KEY.org_id == org_id)
    if not with_revoked:
        query = query.where(_KEY.revoked_at.is_(None))
    if before is not None:
        query = query.where(_KEY.id < before)
    return [dict(row._mapping) for row in conn.execute(query.order_by(_KEY.id.desc()).limit(limit))]


def insert_key(tx: Tx, row: Row) -> None:
    """Store a new key: id, org_id, name, prefix, key_hash, role, scopes, and more."""
    empty = {
        "created_by": None,
        "person_id": None,
        "application_id": None,
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    tx.conn.execute(insert(ApiKey), empty | row | {"created_at": tx.now})


def revoke_key(tx: Tx, org_id: str, key_id: str) -> Row | None:
    """Revoke a key that is not revoked yet; the key, or None."""
    query = (
        update(ApiKey)
        .where(_KEY.id == key_id, _KEY.org_id == org_id, _KEY.revoked_at.is_(None))
        .values(revoked_at=tx.now)
        .returning(*_KEY)
    )
    return _one(tx.conn, query)


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
    tx.conn.execute(
        insert(Audit),
        {
            "id": uuid7(),
            "org_id": org_id,
            "actor": str(actor),
            "front": actor.front if isinstance(actor, Actor) else None,
            "action": action,
            "object_id": object_id,
            "data": data,
            "at": tx.now,
        },
    )


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
    conn: Connection, org_id: str, limit: int, before: str | None = None, wanted: AuditFilter | None = None
) -> Page[Row]:
    """The audit log, newest first, older than the entry `before`; fewer, and `more`, where entries are large."""
    query = select(*_AUDIT).where(_AUDIT.org_id == org_id, *_chosen(wanted or AuditFilter()))
    if before is not None:
        query = query.where(_AUDIT.id < before)
    return pages.bounded_rows(conn, query.order_by(_AUDIT.id.desc()).limit(limit), "id", ("data",))


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
