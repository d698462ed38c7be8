"""Idempotency keys: of requests that carry the same key one is carried out, the others get its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import idempotency
from runyard_common.identity.queries.idempotency import IdempotencyRow, KeptAnswer
from runyard_common.identity.rules.caps import STORAGE
from runyard_common.identity.service import caps
from runyard_common.values.errors import IdempotencyConflict, IdempotencyInProgress
from runyard_common.values.ids import uuid7

#: How long an answer is kept, in seconds.
KEPT: Final = 24 * 3600.0
#: How long a silent owner keeps a key, in seconds: a live one extends its lease, a dead one cannot.
LEASE: Final = 9.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """This request is the one to carry out. What it makes is to get the id `reserved`: a request that takes
    over from one whose process died is given the same, so that nothing is made twice."""

    owner: str
    reserved: str


def reserve(tx: Tx, org_id: str, key: str, identity: str) -> Reservation | KeptAnswer:
    """Reserve a key, or get the answer kept for it. `identity` is a digest of the request's content.

    Errors: `IdempotencyConflict` (another content), `IdempotencyInProgress` (the first is still under way), `Conflict`
    too_many_idempotent_answers or storage_full (the answer could not be kept).
    """
    owner, until = uuid7(), tx.now + LEASE
    known = idempotency.get(tx.conn, org_id, key)
    if known is None or known.expires_at <= tx.now:
        caps.check(tx, org_id, "idempotent_answers")
        caps.check(tx, org_id, STORAGE, 0)
        reserved = uuid7()
        entry = IdempotencyRow(
            org_id, key, identity, owner, until, headers={"reserved": reserved}, expires_at=tx.now + KEPT
        )
        idempotency.put(tx, entry)
        return Reservation(owner, reserved)
    if known.body_hash != identity:
        raise IdempotencyConflict(field="Idempotency-Key")
    if known.lease_until is None:
        assert known.status is not None
        return KeptAnswer(known.status, known.headers or {}, bytes(known.body or b""))
    reserved = (known.headers or {}).get("reserved") or uuid7()
    if known.lease_until > tx.now and not idempotency.is_task(tx.conn, org_id, reserved):
        raise IdempotencyInProgress(field="Idempotency-Key", retry_after=1)
    idempotency.hand_over(tx, org_id, key, owner, until)  # its run is stored, or its process has died
    return Reservation(owner, reserved)


def renew(tx: Tx, org_id: str, key: str, reservation: Reservation) -> bool:
    """Extend the lease of a request under way; False when another request has taken over."""
    return idempotency.renew(tx, org_id, key, reservation.owner, tx.now + LEASE)


def keep(tx: Tx, org_id: str, key: str, reservation: Reservation, answer: KeptAnswer) -> bool:
    """Keep the answer for repetitions; False when another request has taken over meanwhile."""
    return idempotency.keep(tx, org_id, key, reservation.owner, answer)


def release(tx: Tx, org_id: str, key: str, reservation: Reservation) -> None:
    """Free the key: the request was refused, and nothing was made."""
    idempotency.release(tx, org_id, key, reservation.owner)


def lapse(tx: Tx, org_id: str, key: str, reservation: Reservation) -> None:
    """Let the same request take the key over at once, with its reserved id: something may have been made."""
    idempotency.lapse(tx, org_id, key, reservation.owner)
