"""Identities: people as a provider of single sign-on knows them, and the accounts that they open."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import LinkedIdentity

_IDENTITY = LinkedIdentity.__table__.c
Row = dict[str, Any]


def _id(issuer: str, subject: str) -> str:
    return hashlib.sha256(f"{issuer}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()


def get(conn: Connection, issuer: str, subject: str) -> Row | None:
    """The identity of a subject, with its `user_id`."""
    row = conn.execute(select(*_IDENTITY).where(_IDENTITY.id == _id(issuer, subject))).first()
    return dict(row._mapping) if row else None


def of_person(conn: Connection, user_id: str) -> list[Row]:
    """The identities that open a person's account, the oldest first."""
    query = select(*_IDENTITY).where(_IDENTITY.user_id == user_id).order_by(_IDENTITY.created_at)
    return [dict(row._mapping) for row in conn.execute(query)]


def add(tx: Tx, issuer: str, subject: str, user_id: str) -> None:
    """Let an identity open an account."""
    row = {"id": _id(issuer, subject), "issuer": issuer, "subject": subject, "user_id": user_id}
    tx.conn.execute(insert(LinkedIdentity), row | {"created_at": tx.now})


def remove_all(tx: Tx, user_id: str) -> int:
    """Let no identity open a person's account any longer; how many did."""
    return int(tx.conn.execute(delete(LinkedIdentity).where(_IDENTITY.user_id == user_id)).rowcount)
