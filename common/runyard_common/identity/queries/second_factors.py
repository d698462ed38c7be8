"""Second factors of people: the sealed secret of an authenticator, and hashes of recovery codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import RecoveryCode, SecondFactor

_FACTOR = SecondFactor.__table__.c
_CODE = RecoveryCode.__table__.c


@dataclass(frozen=True, slots=True)
class SecondFactorRow:
    """A person's authenticator, as `runyard_common.identity.tables.SecondFactor` describes it."""

    user_id: str
    secret: bytes
    last_step: int
    confirmed_at: float | None
    created_at: float


def get(conn: Connection, user_id: str) -> SecondFactorRow | None:
    """A person's second factor, also one that is not confirmed yet."""
    return rows.first(conn, select(*_FACTOR).where(_FACTOR.user_id == user_id), SecondFactorRow)


def put(tx: Tx, user_id: str, sealed: bytes) -> None:
    """Store a new secret, not confirmed yet, in place of one that a person has."""
    remove(tx, user_id)
    new = SecondFactorRow(user_id, sealed, last_step=-1, confirmed_at=None, created_at=tx.now)
    tx.conn.execute(insert(SecondFactor), rows.values(new))


def confirm(tx: Tx, user_id: str) -> bool:
    """Mark the secret as confirmed; whether it was not yet."""
    where = (_FACTOR.user_id == user_id, _FACTOR.confirmed_at.is_(None))
    return bool(tx.conn.execute(update(SecondFactor).where(*where).values(confirmed_at=tx.now)).rowcount)


def use_step(tx: Tx, user_id: str, step: int) -> bool:
    """Note that the code of a step was used; whether no code of this step or a later one was before."""
    where = (_FACTOR.user_id == user_id, _FACTOR.last_step < step)
    return bool(tx.conn.execute(update(SecondFactor).where(*where).values(last_step=step)).rowcount)


def use_recovery_code(tx: Tx, user_id: str, code_hash: str) -> bool:
    """Delete a recovery code; whether there was one."""
    where = (_CODE.user_id == user_id, _CODE.code_hash == code_hash)
    return bool(tx.conn.execute(delete(RecoveryCode).where(*where)).rowcount)


def put_recovery_codes(tx: Tx, user_id: str, hashes: Iterable[str]) -> None:
    """Replace a person's recovery codes."""
    tx.conn.execute(delete(RecoveryCode).where(_CODE.user_id == user_id))
    codes = [{"user_id": user_id, "code_hash": each, "created_at": tx.now} for each in hashes]
    tx.conn.execute(insert(RecoveryCode), codes)


def recovery_codes(conn: Connection, user_id: str) -> int:
    """How many recovery codes a person has left."""
    query = select(func.count()).select_from(RecoveryCode).where(_CODE.user_id == user_id)
    return int(conn.execute(query).scalar_one())


def remove(tx: Tx, user_id: str) -> bool:
    """Delete a person's second factor and recovery codes; whether there was one."""
    tx.conn.execute(delete(RecoveryCode).where(_CODE.user_id == user_id))
    return bool(tx.conn.execute(delete(SecondFactor).where(_FACTOR.user_id == user_id)).rowcount)
