"""People, their places in organisations, and the invitations that wait for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Invitation, Member, Organisation, User
from runyard_common.values.ids import uuid7

_USER = User.__table__.c
_MEMBER = Member.__table__.c
_ORG = Organisation.__table__.c
_INVITATION = Invitation.__table__.c
Row = dict[str, Any]


def _one(conn: Connection, query: Any) -> Row | None:
    row = conn.execute(query).first()
    return dict(row._mapping) if row else None


def _all(conn: Connection, query: Any) -> list[Row]:
    return [dict(row._mapping) for row in conn.execute(query)]


def person(conn: Connection, user_id: str) -> Row | None:
    """A person by id, with `password_hash`."""
    return _one(conn, select(*_USER).where(_USER.id == user_id))


def person_by_email(conn: Connection, email: str) -> Row | None:
    """A person by normalised address, with `password_hash`."""
    return _one(conn, select(*_USER).where(_USER.email == email))


def insert_person(tx: Tx, email: str, name: str, password_hash: str | None) -> str:
    """Store a new person, with a password of their own; their id."""
    user_id = uuid7()
    row: Row = {"id": user_id, "email": email, "name": name, "created_at": tx.now}
    row |= {"password_hash": password_hash, "must_change_password": False}
    tx.conn.execute(insert(User), row)
    return user_id


def set_password(tx: Tx, user_id: str, password_hash: str, must_change: bool | None = None) -> None:
    """Replace what is kept of a person's password; `must_change` None leaves that as it is."""
    values: Row = {"password_hash": password_hash}
    if must_change is not None:
        values["must_change_password"] = must_change
    tx.conn.execute(update(User).where(_USER.id == user_id).values(**values))


def organisations_of(conn: Connection, user_id: str) -> list[Row]:
    """Organisations a person belongs to, the first joined first: id, name, role, active, settings, created_at."""
    query = (
        select(_ORG.id, _ORG.name, _ORG.active, _ORG.settings, _ORG.created_at, _MEMBER.role)
        .join(Member.__table__, _MEMBER.org_id == _ORG.id)
        .where(_MEMBER.user_id == user_id)
        .order_by(_MEMBER.created_at, _ORG.id)
    )
    return _all(conn, query)


def member(conn: Connection, org_id: str, user_id: str) -> Row | None:
    """A person of an organisation: user_id, email, name, role, created_at."""
    return _one(conn, _members(org_id).where(_MEMBER.user_id == user_id))


def members(conn: Connection, org_id: str, limit: int, before: str | None = None) -> list[Row]:
    """People of an organisation, the newest accounts first, older than the id `before`."""
    query = _members(org_id)
    if before is not None:
        query = query.where(_MEMBER.user_id < before)
    return _all(conn, query.order_by(_MEMBER.user_id.desc()).limit(limit))


def _members(org_id: str) -> Any:
    return (
        select(_MEMBER.user_id, _USER.email, _USER.name, _MEMBER.role, _MEMBER.created_at)
        .join(User.__table__, _USER.id == _MEMBER.user_id)
        .where(_MEMBER.org_id == org_id)
    )


def owners(conn: Connection, org_id: str) -> int:
    """How many owners an organisation has."""
    query = select(func.count()).where(_MEMBER.org_id == org_id, _MEMBER.role == "owner")
    return int(conn.execute(query).scalar_one())


def add(tx: Tx, org_id: str, user_id: str, role: str) -> None:
    """Give a person who has none a place in an organisation."""
    tx.conn.execute(
        insert(Member), {"org_id": org_id, "user_id": user_id, "role": role, "created_at": tx.now}
    )


def set_role(tx: Tx, org_id: str, user_id: str, role: str) -> None:
    """Change a member's role."""
    where = (_MEMBER.org_id == org_id, _MEMBER.user_id == user_id)
    tx.conn.execute(update(Member).where(*where).values(role=role))


def remove(tx: Tx, org_id: str, user_id: str) -> None:
    """Take a person's place in an organisation away; the account stays."""
    tx.conn.execute(delete(Member).where(_MEMBER.org_id == org_id, _MEMBER.user_id == user_id))


def insert_invitation(tx: Tx, row: Row) -> None:
    """Store an invitation: org_id, email, role, token_hash, created_by, expires_at; gives it id and time."""
    tx.conn.execute(insert(Invitation), row | {"created_at": tx.now})


def invitation(conn: Connection, token_hash: str) -> Row | None:
    """An invitation by the hash of its token, with `organisation` and `org_active`."""
    query = (
        select(*_INVITATION, _ORG.name.label("organisation"), _ORG.active.label("org_active"))
        .join(Organisation.__table__, _ORG.id == _INVITATION.org_id)
        .where(_INVITATION.token_hash == token_hash)
    )
    return _one(conn, query)


def invitations(conn: Connection, org_id: str, now: float) -> list[Row]:
    """Invitations of an organisation that may still be accepted, newest first."""
    where = (_INVITATION.org_id == org_id, _INVITATION.expires_at > now)
    return _all(conn, select(*_INVITATION).where(*where).order_by(_INVITATION.id.desc()))


def remove_invitation(tx: Tx, org_id: str, invitation_id: str) -> Row | None:
    """Delete an invitation; what it was, or None."""
    where = (_INVITATION.org_id == org_id, _INVITATION.id == invitation_id)
    return _one(tx.conn, delete(Invitation).where(*where).returning(*_INVITATION))


def forget_invitations(tx: Tx, org_id: str, email: str) -> None:
    """Delete the organisation's invitations to an address, and all that have expired."""
    mine = (_INVITATION.org_id == org_id) & (_INVITATION.email == email)
    tx.conn.execute(delete(Invitation).where(mine | (_INVITATION.expires_at <= tx.now)))
