"""The outbox as its owners see it: what was sent where, what came of it, and sending it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, delete, or_, select, update

from runyard_common.database import rows
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


def page(scope: OrgScope, wanted: Filter, limit: int, before: str | None = None) -> list[DeliveryRow]:
    """Deliveries of an organisation, newest first, older than the one with the id `before`."""
    query = _filtered(select(*_COLUMNS), scope.org_id, wanted)
    if before is not None:
        at = select(Delivery.created_at).where(Delivery.id == before).scalar_subquery()
        query = query.where(
            or_(Delivery.created_at < at, and_(Delivery.created_at == at, Delivery.id < before))
        )
    query = query.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit)
    return rows.every(scope.conn, query, DeliveryRow)


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
    conditions: list[Any] = [Delivery.org_id == org_id]
    if wanted.endpoint_id == "":
        conditions.append(Delivery.endpoint_id.is_(None))
    elif wanted.endpoint_id is not None:
        conditions.append(Delivery.endpoint_id == wanted.endpoint_id)
    if wanted.states == ("dead",):
        conditions.append(Delivery.state == "dead")  # as the partial index has it
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
