"""The outbox as its owners see it: what was sent where, what came of it, and sending it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Select, delete, or_, select, union_all, update

from runyard_common.database import rows
from runyard_common.database.pages import unindexed
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Delivery


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """What was sent where, and its outcome, as `runyard_common.webhooks.tables.Delivery` describes it."""

    id: str
    org_id: str
    endpoint_id: str | None
    task_id: str | None
    event_id: str
    event_type: str
    url: str
    state: str
    attempt: int
    next_at: float
    status_code: int | None
    latency_ms: int | None
    error: str | None
    answer: str | None
    created_at: float
    updated_at: float


_COLUMNS = rows.columns(DeliveryRow, Delivery)
_ORDER = (Delivery.created_at.desc(), Delivery.id.desc())


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries; None = any. Times are epoch seconds, inclusive. `endpoint_id` "" = runs' own callbacks."""

    endpoint_id: str | None = None
    task_id: str | None = None
    states: tuple[str, ...] | None = None
    event_type: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    updated_before: float | None = None
    ids: tuple[str, ...] | None = None


def get(scope: OrgScope, delivery_id: str) -> DeliveryRow | None:
    """One delivery of an organisation."""
    query = select(*_COLUMNS).where(Delivery.id == delivery_id, Delivery.org_id == scope.org_id)
    return rows.first(scope.conn, query, DeliveryRow)


def body(scope: OrgScope, delivery_id: str) -> str | None:
    """What a delivery of the organisation carries, with placeholders for links."""
    query = select(Delivery.body).where(Delivery.id == delivery_id, Delivery.org_id == scope.org_id)
    found: str | None = scope.conn.execute(query).scalar()
    return found


def attempts(scope: OrgScope, delivery_id: str) -> list[dict[str, Any]]:
    """What came of the attempts of a delivery of the organisation, the newest last."""
    query = select(Delivery.attempts).where(Delivery.id == delivery_id, Delivery.org_id == scope.org_id)
    return scope.conn.execute(query).scalar() or []


def page(scope: OrgScope, wanted: Filter, limit: int, before: str | None = None) -> list[DeliveryRow]:
    """Deliveries of an organisation, newest first, older than the one with the id `before`."""
    each = [replace(wanted, states=(state,)) for state in set(wanted.states or ())]
    if len(each) < 2:
        query = _newest(_COLUMNS, scope, wanted, limit, before)
    else:  # the page of each state, of which an index knows the few, and of these the newest
        found = [_newest([Delivery.id], scope, one, limit, before).subquery() for one in each]
        ids = union_all(*(select(one.c.id) for one in found))
        query = select(*_COLUMNS).where(Delivery.id.in_(ids)).order_by(*_ORDER).limit(limit)
    return rows.every(scope.conn, query, DeliveryRow)


def _newest(
    columns: Sequence[Any], scope: OrgScope, wanted: Filter, limit: int, before: str | None
) -> Select[Any]:
    query = _filtered(select(*columns), scope.org_id, wanted)
    if before is not None:
        at = select(Delivery.created_at).where(Delivery.id == before).scalar_subquery()
        # The first condition is where an index begins, the second is exact.
        query = query.where(Delivery.created_at <= at, or_(Delivery.created_at < at, Delivery.id < before))
    return query.order_by(*_ORDER).limit(limit)


def send_again(tx: Tx, org_id: str, wanted: Filter, limit: int) -> list[str]:
    """Make settled deliveries that match pending again, oldest first; their ids.

    Each keeps its event id and body, so that receivers know it, and starts its retries again.
    """
    settled = _filtered(select(Delivery.id), org_id, wanted).where(Delivery.state != "pending")
    chosen = settled.order_by(Delivery.created_at, Delivery.id).limit(limit)
    ids = list(tx.conn.execute(chosen.with_for_update(skip_locked=True)).scalars())
    if ids:
        tx.conn.execute(
            update(Delivery)
            .where(Delivery.id.in_(ids))
            .values(state="pending", attempt=0, next_at=tx.now, updated_at=tx.now)
        )
        tx.deliveries += len(ids)
    return ids


def forget(tx: Tx, task_ids: Sequence[str]) -> None:
    """Delete the deliveries of deleted tasks."""
    if task_ids:
        tx.conn.execute(delete(Delivery).where(Delivery.task_id.in_(task_ids)))


def _filtered(query: Select[Any], org_id: str, wanted: Filter) -> Select[Any]:
    few = wanted.states == ("pending",)
    conditions: list[Any] = [(unindexed(Delivery.org_id) if few else Delivery.org_id) == org_id]
    if wanted.endpoint_id == "":
        conditions.append(Delivery.endpoint_id.is_(None))
    elif wanted.endpoint_id is not None:
        conditions.append(Delivery.endpoint_id == wanted.endpoint_id)
    if wanted.states in (("dead",), ("pending",)):
        conditions.append(Delivery.state == wanted.states[0])  # as the partial indexes have it
    elif wanted.states is not None:
        conditions.append(Delivery.state.in_(wanted.states))
    conditions += _equal(wanted)
    if wanted.created_after is not None:
        conditions.append(Delivery.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(Delivery.created_at <= wanted.created_before)
    return query.where(*conditions)


def _equal(wanted: Filter) -> Iterable[Any]:
    if wanted.task_id is not None:
        yield Delivery.task_id == wanted.task_id
    if wanted.event_type is not None:
        yield Delivery.event_type == wanted.event_type
    if wanted.updated_before is not None:
        yield Delivery.updated_at <= wanted.updated_before
    if wanted.ids is not None:
        yield Delivery.id.in_(wanted.ids)
