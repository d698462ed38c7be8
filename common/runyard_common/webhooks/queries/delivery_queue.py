"""The deliverers' side of the outbox: who has something due, leases, outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, exists, func, select, text, update

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Delivery
from runyard_common.webhooks.rules.delivery_budget import Head

#: Receivers looked at in one go; with more, several goes take turns.
RECEIVERS: Final = 500
_LOCK: Final = 0x52796456  # one claim at a time, so that no receiver's limits are overdrawn
_COLUMNS = Delivery.__table__.c

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


def alone(tx: Tx) -> bool:
    """Be the only claim until the transaction ends; False when another is under way.

    Writers are alone on SQLite anyway.
    """
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


def due(tx: Tx, receiver: str, limit: int) -> list[Any]:
    """The next due deliveries of a receiver, locked; none that stands behind an earlier pending one of its order."""
    earlier = Delivery.__table__.alias().c
    blocked = exists().where(
        earlier.order_key == Delivery.order_key,
        earlier.state == "pending",
        earlier.order_seq < Delivery.order_seq,
    )
    query = (
        select(*_COLUMNS)
        .where(
            Delivery.receiver == receiver, Delivery.state == "pending", Delivery.next_at <= tx.now, ~blocked
        )
        .order_by(Delivery.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Delivery)
    )
    return list(tx.conn.execute(query))


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


def settle(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Record outcomes. Each row gives key, owner, number (the attempt), state, at (next attempt), and what to log.

    An outcome whose lease somebody else has taken over changes nothing.
    """
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
            answer=bindparam("said"),
            lease_owner=None,
            lease_until=None,
            updated_at=tx.now,
        )
    )
    if rows:
        tx.conn.execute(statement, sorted(rows, key=lambda row: str(row["key"])))


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


def put_off(tx: Tx, waits: Mapping[str, float]) -> None:
    """What stands behind a delivery that waits for a retry need not be looked at before it."""
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


def bring_on(tx: Tx, order_keys: Iterable[str]) -> None:
    """What stood behind a delivery that waited is due: it has gone, or died."""
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


def bury(tx: Tx, why: str, *conditions: Any) -> int:
    """Pending deliveries that match end dead; how many."""
    done = tx.conn.execute(
        update(Delivery)
        .where(Delivery.state == "pending", *conditions)
        .values(state="dead", error=why, lease_owner=None, lease_until=None, updated_at=tx.now)
    )
    return int(done.rowcount)


def bury_receiver(tx: Tx, receiver: str, why: str) -> int:
    """Every pending delivery of a receiver ends dead."""
    return bury(tx, why, Delivery.receiver == receiver)


def bury_callbacks(tx: Tx, task_ids: Sequence[str], why: str) -> int:
    """The pending callbacks of these tasks end dead."""
    return bury(tx, why, Delivery.order_key.in_([f"cb:{task_id}" for task_id in task_ids]))


def bury_waiting(tx: Tx, receiver: str, before: float, why: str) -> int:
    """What has been due since `before` without a call (its host is away for days) ends dead; how many."""
    return bury(tx, why, Delivery.receiver == receiver, Delivery.next_at < before)


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
