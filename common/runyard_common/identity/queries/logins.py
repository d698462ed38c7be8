"""Sign-ins under way, by the hash of the token a cookie holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Login, SecondFactor, User

_LOGIN = Login.__table__.c
_USER = User.__table__.c
_FACTOR = SecondFactor.__table__.c


@dataclass(frozen=True, slots=True)
class LoginRow:
    """A sign-in, as `runyard_common.identity.tables.Login` describes it."""

    token_hash: str
    user_id: str
    csrf: str
    created_at: float
    expires_at: float
    last_used_at: float | None
    address: str | None
    agent: str | None
    method: str | None


@dataclass(frozen=True, slots=True)
class SignedIn(LoginRow):
    """A sign-in with its person."""

    email: str
    name: str
    must_change_password: bool
    second_factor_at: float | None


@dataclass(frozen=True, slots=True)
class Use:
    """The last use of a sign-in, and until when it lasts by that. Instants are epoch seconds."""

    at: float
    until: float


def add(tx: Tx, new: LoginRow) -> None:
    """Store a sign-in. Expired ones are deleted."""
    tx.conn.execute(delete(Login).where(_LOGIN.expires_at <= tx.now))
    tx.conn.execute(insert(Login), rows.values(new))


def get(conn: Connection, token_hash: str) -> SignedIn | None:
    """A sign-in, expired ones too."""
    query = (
        select(
            *_LOGIN,
            _USER.email,
            _USER.name,
            _USER.must_change_password,
            _FACTOR.confirmed_at.label("second_factor_at"),
        )
        .join(User.__table__, _USER.id == _LOGIN.user_id)
        .outerjoin(SecondFactor.__table__, _FACTOR.user_id == _LOGIN.user_id)
        .where(_LOGIN.token_hash == token_hash)
    )
    return rows.first(conn, query, SignedIn)


def remove(tx: Tx, token_hash: str) -> None:
    """End a sign-in."""
    tx.conn.execute(delete(Login).where(_LOGIN.token_hash == token_hash))


def remove_others(tx: Tx, user_id: str, keep: str | None) -> int:
    """End every sign-in of a person but the one of this hash; how many."""
    query = delete(Login).where(_LOGIN.user_id == user_id)
    return int(tx.conn.execute(query if keep is None else query.where(_LOGIN.token_hash != keep)).rowcount)


def of_person(conn: Connection, user_id: str, now: float) -> list[LoginRow]:
    """Sign-ins of a person that have not expired, the newest first."""
    query = select(*_LOGIN).where(_LOGIN.user_id == user_id, _LOGIN.expires_at > now)
    return rows.every(conn, query.order_by(_LOGIN.created_at.desc()), LoginRow)


def keep_newest(tx: Tx, user_id: str, most: int) -> None:
    """End a person's sign-ins but for so many of the newest."""
    for login in of_person(tx.conn, user_id, tx.now)[most:]:
        remove(tx, login.token_hash)


def renew(tx: Tx, used: Mapping[str, Use]) -> None:
    """Note the last use of sign-ins, by hash, and let them last until then; never shorter than they do."""
    statement = (
        update(Login)
        .where(_LOGIN.token_hash == bindparam("hash"), _LOGIN.expires_at <= bindparam("until"))
        .values(expires_at=bindparam("until"), last_used_at=bindparam("used"))
    )
    if used:
        uses = [{"hash": digest, "until": use.until, "used": use.at} for digest, use in sorted(used.items())]
        tx.conn.execute(statement, uses)
