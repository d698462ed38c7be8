"""People, their places in organisations, and the invitations that wait for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Invitation, Member, Organisation, User
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonObject

_USER = User.__table__.c
_MEMBER = Member.__table__.c
_ORG = Organisation.__table__.c
_INVITATION = Invitation.__table__.c


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person who signs in, as `runyard_common.identity.tables.User` describes them."""

    id: str
    email: str
    name: str
    created_at: float
    password_hash: str | None
    must_change_password: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """An organisation that a person belongs to, and their role in it."""

    id: str
    name: str
    active: bool
    settings: JsonObject | None
    created_at: float
    role: str


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A person of an organisation."""

    user_id: str
    email: str
    name: str
    role: str
    created_at: float


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """A place that waits for a person, as `runyard_common.identity.tables.Invitation` describes it."""

    id: str
    org_id: str
    email: str
    role: str
    token_hash: str
    created_by: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class PresentedInvitation(InvitationRow):
    """An invitation whose token was presented, with its organisation's name."""

    organisation: str
    org_active: bool


def person(conn: Connection, user_id: str) -> PersonRow | None:
    """A person by id."""
    return rows.first(conn, select(*_USER).where(_USER.id == user_id), PersonRow)


def person_by_email(conn: Connection, email: str) -> PersonRow | None:
    """A person by normalised address."""
    return rows.first(conn, select(*_USER).where(_USER.email == email), PersonRow)


def insert_person(tx: Tx, email: str, name: str, password_hash: str | None) -> str:
    """Store a new person, with a password of their own; their id."""
    made = PersonRow(uuid7(), email, name, tx.now, password_hash)
    tx.conn.execute(insert(User), rows.values(made))
    return made.id


def set_password(tx: Tx, user_id: str, password_hash: str, must_change: bool | None = None) -> None:
    """Replace what is kept of a person's password; `must_change` None leaves that as it is."""
    values: dict[str, Any] = {"password_hash": password_hash}
    if must_change is not None:
        values["must_change_password"] = must_change
    tx.conn.execute(update(User).where(_USER.id == user_id).values(**values))


def organisations_of(conn: Connection, user_id: str) -> list[Place]:
    """Organisations a person belongs to, the first joined first."""
    query = (
        select(_ORG.id, _ORG.name, _ORG.active, _ORG.settings, _ORG.created_at, _MEMBER.role)
        .join(Member.__table__, _MEMBER.org_id == _ORG.id)
        .where(_MEMBER.user_id == user_id)
        .order_by(_MEMBER.created_at, _ORG.id)
    )
    return rows.every(conn, query, Place)


def member(scope: OrgScope, user_id: str) -> MemberRow | None:
    """A person of an organisation."""
    return rows.first(scope.conn, _members(scope.org_id).where(_MEMBER.user_id == user_id), MemberRow)


def members(scope: OrgScope, limit: int, before: str | None = None) -> list[MemberRow]:
    """People of an organisation, the newest accounts first, older than the id `before`."""
    query = _members(scope.org_id)
    if before is not None:
        query = query.where(_MEMBER.user_id < before)
    return rows.every(scope.conn, query.order_by(_MEMBER.user_id.desc()).limit(limit), MemberRow)


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


def insert_invitation(tx: Tx, new: InvitationRow) -> None:
    """Store an invitation."""
    tx.conn.execute(insert(Invitation), rows.values(new))


def invitation(conn: Connection, token_hash: str) -> PresentedInvitation | None:
    """An invitation by the hash of its token."""
    query = (
        select(*_INVITATION, _ORG.name.label("organisation"), _ORG.active.label("org_active"))
        .join(Organisation.__table__, _ORG.id == _INVITATION.org_id)
        .where(_INVITATION.token_hash == token_hash)
    )
    return rows.first(conn, query, PresentedInvitation)


def invitations(scope: OrgScope, now: float) -> list[InvitationRow]:
    """Invitations of an organisation that may still be accepted, newest first."""
    where = (_INVITATION.org_id == scope.org_id, _INVITATION.expires_at > now)
    query = select(*_INVITATION).where(*where).order_by(_INVITATION.id.desc())
    return rows.every(scope.conn, query, InvitationRow)


def remove_invitation(tx: Tx, org_id: str, invitation_id: str) -> InvitationRow | None:
    """Delete an invitation; what it was, or None."""
    where = (_INVITATION.org_id == org_id, _INVITATION.id == invitation_id)
    return rows.first(tx.conn, delete(Invitation).where(*where).returning(*_INVITATION), InvitationRow)


def forget_invitations(tx: Tx, org_id: str, email: str) -> None:
    """Delete the organisation's invitations to an address, and all that have expired."""
    mine = (_INVITATION.org_id == org_id) & (_INVITATION.email == email)
    tx.conn.execute(delete(Invitation).where(mine | (_INVITATION.expires_at <= tx.now)))
