"""Identities: people as a provider of single sign-on knows them, and the accounts that they open."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import LinkedIdentity

_IDENTITY = LinkedIdentity.__table__.c


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """A subject of a provider, and the account that it opens."""

    id: str
    issuer: str
    subject: str
    user_id: str
    created_at: float


def _id(issuer: str, subject: str) -> str:
    return hashlib.sha256(f"{issuer}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()


def get(conn: Connection, issuer: str, subject: str) -> IdentityRow | None:
    """The identity of a subject."""
    query = select(*_IDENTITY).where(_IDENTITY.id == _id(issuer, subject))
    return rows.first(conn, query, IdentityRow)


def of_person(conn: Connection, user_id: str) -> list[IdentityRow]:
    """The identities that open a person's account, the oldest first."""
    query = select(*_IDENTITY).where(_IDENTITY.user_id == user_id).order_by(_IDENTITY.created_at)
    return rows.every(conn, query, IdentityRow)


def add(tx: Tx, issuer: str, subject: str, user_id: str) -> None:
    """Let an identity open an account."""
    new = IdentityRow(_id(issuer, subject), issuer, subject, user_id, tx.now)
    tx.conn.execute(insert(LinkedIdentity), rows.values(new))


def remove_all(tx: Tx, user_id: str) -> int:
    """Let no identity open a person's account any longer; how many did."""
    return int(tx.conn.execute(delete(LinkedIdentity).where(_IDENTITY.user_id == user_id)).rowcount)
