"""The deliverers' side of the outbox: who has something due, leases, outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, exists, func, select, text, update

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Delivery
from runyard_common.webhooks.rules.delivery_budget import Head

#: Receivers looked at in one go; with more, several goes take turns.
RECEIVERS: Final = 500
#: Attempts that a delivery keeps, the newest: more than a webhook of ours is tried, unless it is sent again by hand.
ATTEMPTS_KEPT: Final = 20
#: Letters of the error of one.
_ERROR_KEPT: Final = 200
_LOCK: Final = 0x52796456  # one claim at a time, so that no receiver's limits are overdrawn


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that is due. `attempt` counts the attempts begun, `attempts` are those that came to something."""

    id: str
    org_id: str
    task_id: str | None
    endpoint_id: str | None
    receiver: str
    order_key: str
    event_id: str
    event_type: str
    url: str
    host: str
    body: str
    attempt: int
    attempts: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Outgoing(DueDelivery):
    """A delivery to attempt, `wait_s` seconds from now. Headers and secrets are sealed."""

    style: str
    headers: bytes | None
    secret: bytes
    old_secret: bytes | None
    failing: bool
    wait_s: float
    trace: tuple[str | None, str] | None = (
        None  # of its run, where traces are recorded: what asked for it, its agent
    )


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of an attempt. `state` is success, pending (again in `delay_s` seconds) or dead.

    `disable` names why the receiver is to get nothing more.
    """

    sent: Outgoing
    owner: str
    state: str
    delay_s: float = 0.0
    status_code: int | None = None
    latency_ms: int | None = None
    error: str | None = None
    answer: str | None = None
    disable: str | None = None


# A loose index scan over ix_deliveries_due: two probes per receiver, however many deliveries each has.
_HEADS = text("""
WITH RECURSIVE heads(receiver, n) AS (
    SELECT min(receiver), 1 FROM deliveries WHERE state = 'pending' AND receiver > :after
    UNION ALL
    SELECT (SELECT min(d.receiver) FROM deliveries d WHERE d.state = 'pending' AND d.receiver > heads.receiver), n + 1
    FROM heads WHERE heads.receiver IS NOT NULL AND n < :limit
)
SELECT d.receiver, d.org_id, d.host, d.next_at FROM heads JOIN deliveries d ON d.id = (
    SELECT f.id FROM deliveries f WHERE f.state = 'pending' AND f.receiver = heads.receiver
    ORDER BY f.next_at LIMIT 1
) WHERE heads.receiver IS NOT NULL
""")


def heads(conn: Connection, after: str = "", limit: int = RECEIVERS) -> list[Head]:
    """Receivers with pending deliveries, in their order, from the one after `after`."""
    rows = conn.execute(_HEADS, {"after": after, "limit": limit})
    return [Head(row.receiver, row.org_id, row.host, row.next_at) for row in rows]


def try_claim_lock(tx: Tx) -> bool:
    """Be the only claim until the transaction ends; False when another is under way. SQLite has one writer anyway."""
    if not tx.db.is_postgres:
        return True
    return bool(tx.conn.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar())


def under_way(tx: Tx, receivers: Iterable[str]) -> dict[str, int]:
    """How many deliveries each receiver has under way, in all processes."""
    query = (
        select(Delivery.receiver, func.count().label("calls"))
        .where(
            Delivery.lease_owner.is_not(None),
            Delivery.lease_until > tx.now,
            Delivery.receiver.in_(list(receivers)),
        )
        .group_by(Delivery.receiver)
    )
    return {row.receiver: row.calls for row in tx.conn.execute(query)}


def due(tx: Tx, receiver: str, limit: int) -> list[DueDelivery]:
    """The next due deliveries of a receiver, locked; none that waits behind an earlier pending one of its order."""
    earlier = Delivery.__table__.alias().c
    blocked = exists().where(
        earlier.order_key == Delivery.order_key,
        earlier.state == "pending",
        earlier.order_seq < Delivery.order_seq,
    )
    query = (
        select(*rows.columns(DueDelivery, Delivery))
        .where(
            Delivery.receiver == receiver, Delivery.state == "pending", Delivery.next_at <= tx.now, ~blocked
        )
        .order_by(Delivery.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Delivery)
    )
    return rows.every(tx.conn, query, DueDelivery)


def lease(tx: Tx, owner: str, leases: Sequence[tuple[str, float]]) -> None:
    """Give deliveries (id, lease end in epoch seconds) to a deliverer; each counts as one more attempt.

    A lease that ends without an outcome makes the delivery due again.
    """
    statement = (
        update(Delivery)
        .where(Delivery.id == bindparam("key"))
        .values(
            attempt=Delivery.attempt + 1,
            lease_owner=owner,
            lease_until=bindparam("until"),
            next_at=bindparam("until"),
            updated_at=tx.now,
        )
    )
    if leases:
        tx.conn.execute(statement, [{"key": key, "until": until} for key, until in leases])


def settle(tx: Tx, outcomes: Sequence[Settled]) -> None:
    """Record outcomes. One whose lease another deliverer has taken over changes nothing."""
    statement = (
        update(Delivery)
        .where(
            Delivery.id == bindparam("key"),
            Delivery.lease_owner == bindparam("owner"),
            Delivery.attempt == bindparam("number"),
            Delivery.state == "pending",
        )
        .values(
            state=bindparam("new_state"),
            next_at=bindparam("at"),
            status_code=bindparam("code"),
            latency_ms=bindparam("latency"),
            error=bindparam("why"),
            answer=bindparam("reply"),
            attempts=bindparam("all"),
            lease_owner=None,
            lease_until=None,
            updated_at=tx.now,
        )
    )
    if outcomes:
        ordered = sorted(outcomes, key=lambda outcome: outcome.sent.id)
        tx.conn.execute(statement, [_outcome(tx, outcome) for outcome in ordered])


def _outcome(tx: Tx, c: Settled) -> dict[str, Any]:
    return {
        "key": c.sent.id,
        "owner": c.owner,
        "number": c.sent.attempt,
        "new_state": c.state,
        "at": tx.now + c.delay_s,
        "code": c.status_code,
        "latency": c.latency_ms,
        "why": c.error,
        "reply": c.answer,
        "all": [*(c.sent.attempts or ()), _attempt(tx, c)][-ATTEMPTS_KEPT:],
    }


def _attempt(tx: Tx, c: Settled) -> dict[str, Any]:
    return {
        "attempt": c.sent.attempt,
        "at": tx.now,
        "status_code": c.status_code,
        "latency_ms": c.latency_ms,
        "error": c.error[:_ERROR_KEPT] if c.error else None,
    }


def give_back(tx: Tx, owner: str, ids: Sequence[str]) -> None:
    """Deliveries that were leased and not sent are due again, no attempt spent."""
    if ids:
        tx.conn.execute(
            update(Delivery)
            .where(Delivery.id.in_(ids), Delivery.lease_owner == owner, Delivery.state == "pending")
            .values(
                attempt=Delivery.attempt - 1,
                lease_owner=None,
                lease_until=None,
                next_at=tx.now,
                updated_at=tx.now,
            )
        )


def defer_followers(tx: Tx, waits: Mapping[str, float]) -> None:
    """What is behind a delivery that waits for a retry need not be looked at before it."""
    statement = (
        update(Delivery)
        .where(
            Delivery.order_key == bindparam("key"),
            Delivery.state == "pending",
            Delivery.lease_owner.is_(None),
            Delivery.next_at < bindparam("at"),
        )
        .values(next_at=bindparam("at"))
    )
    if waits:
        tx.conn.execute(statement, [{"key": key, "at": at} for key, at in sorted(waits.items())])


def release_followers(tx: Tx, order_keys: Iterable[str]) -> None:
    """What was behind a delivery that waited is due: it was sent, or is dead."""
    keys = sorted(set(order_keys))
    if keys:
        tx.conn.execute(
            update(Delivery)
            .where(
                Delivery.order_key.in_(keys),
                Delivery.state == "pending",
                Delivery.lease_owner.is_(None),
                Delivery.next_at > tx.now,
            )
            .values(next_at=tx.now)
        )


def mark_dead(tx: Tx, why: str, *conditions: Any) -> int:
    """Pending deliveries that match end dead; how many."""
    done = tx.conn.execute(
        update(Delivery)
        .where(Delivery.state == "pending", *conditions)
        .values(state="dead", error=why, lease_owner=None, lease_until=None, updated_at=tx.now)
    )
    return int(done.rowcount)


def mark_receiver_dead(tx: Tx, receiver: str, why: str) -> int:
    """Every pending delivery of a receiver ends dead."""
    return mark_dead(tx, why, Delivery.receiver == receiver)


def mark_callbacks_dead(tx: Tx, task_ids: Sequence[str], why: str) -> int:
    """The pending callbacks of these tasks end dead."""
    return mark_dead(tx, why, Delivery.order_key.in_([f"cb:{task_id}" for task_id in task_ids]))


def mark_waiting_dead(tx: Tx, receiver: str, before: float, why: str) -> int:
    """What has been due since `before` without a call (its host is away for days) ends dead; how many."""
    return mark_dead(tx, why, Delivery.receiver == receiver, Delivery.next_at < before)


def redirect(tx: Tx, receiver: str, url: str, host: str) -> None:
    """Pending deliveries of a receiver go to another address, at once."""
    tx.conn.execute(
        update(Delivery)
        .where(Delivery.receiver == receiver, Delivery.state == "pending")
        .values(
            url=url,
            host=host,
            next_at=case((Delivery.lease_owner.is_(None), tx.now), else_=Delivery.next_at),
        )
    )
