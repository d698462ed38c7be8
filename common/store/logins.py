"""Sign-ins under way, by the hash of the token a cookie holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from common.store.tables.query import Login, User
from common.store.transaction import Tx

_LOGIN = Login.__table__.c
_USER = User.__table__.c
Row = dict[str, Any]


def add(tx: Tx, row: Row) -> None:
    """Store a sign-in: token_hash, user_id, csrf, expires_at. Those that have expired are forgotten."""
    tx.conn.execute(delete(Login).where(_LOGIN.expires_at <= tx.now))
    tx.conn.execute(insert(Login), row | {"created_at": tx.now})


def get(conn: Connection, token_hash: str) -> Row | None:
    """A sign-in with its person's `email`, `name` and `must_change_password`; expired ones too."""
    query = (
        select(*_LOGIN, _USER.email, _USER.name, _USER.must_change_password)
        .join(User.__table__, _USER.id == _LOGIN.user_id)
        .where(_LOGIN.token_hash == token_hash)
    )
    row = conn.execute(query).first()
    return dict(row._mapping) if row else None


def remove(tx: Tx, token_hash: str) -> None:
    """End a sign-in."""
    tx.conn.execute(delete(Login).where(_LOGIN.token_hash == token_hash))


def remove_others(tx: Tx, user_id: str, keep: str | None) -> None:
    """End every sign-in of a person but the one of this hash."""
    query = delete(Login).where(_LOGIN.user_id == user_id)
    tx.conn.execute(query if keep is None else query.where(_LOGIN.token_hash != keep))


def renew(tx: Tx, until: Mapping[str, float]) -> None:
    """Let sign-ins (by hash) last until these instants; never shorter than they do."""
    statement = (
        update(Login)
        .where(_LOGIN.token_hash == bindparam("hash"), _LOGIN.expires_at < bindparam("until"))
        .values(expires_at=bindparam("until"))
    )
    if until:
        tx.conn.execute(statement, [{"hash": digest, "until": at} for digest, at in sorted(until.items())])
