"""Webhook endpoints of organisations, and the secret that signs an organisation's callbacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Update, bindparam, delete, exists, func, insert, select, text, update

from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Endpoint, Organisation, Task
from runyard_common.values.json_text import JsonObject

#: The row of an organisation that holds the secret of its runs' callbacks; it is no endpoint.
CALLBACKS: Final = "callbacks"
#: Whether the organisation of a task has an active endpoint: a column of a query that reads tasks.
LISTENED: Final = (
    exists()
    .where(Endpoint.org_id == Task.org_id, Endpoint.active.is_(True))
    .correlate(Task.__table__)
    .label("listened")
)


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """A webhook of an organisation, as `runyard_common.webhooks.tables.Endpoint` describes it."""

    id: str
    org_id: str
    style: str
    url: str
    events: list[str]
    payload_mode: str
    secret: bytes
    created_at: float
    updated_at: float
    application_id: str | None = None
    agent_id: str | None = None
    old_secret: bytes | None = None
    old_secret_until: float | None = None
    active: bool = True
    disabled_reason: str | None = None
    failing_since: float | None = None
    max_parallel: int = 10
    max_per_second: float = 100.0
    paced_until: float | None = None
    meta: JsonObject | None = None


_COLUMNS = rows.columns(EndpointRow, Endpoint)


def get(scope: OrgScope, endpoint_id: str, lock: bool = False) -> EndpointRow | None:
    """One endpoint of an organisation."""
    query = select(*_COLUMNS).where(
        Endpoint.id == endpoint_id, Endpoint.org_id == scope.org_id, Endpoint.style != CALLBACKS
    )
    return rows.first(scope.conn, query.with_for_update() if lock else query, EndpointRow)


def page(scope: OrgScope, application_id: str | None = None, owner: str | None = None) -> list[EndpointRow]:
    """Endpoints of an organisation, newest first. `owner` is organization (those of no application) or application."""
    query = select(*_COLUMNS).where(Endpoint.org_id == scope.org_id, Endpoint.style != CALLBACKS)
    if application_id is not None:
        query = query.where(Endpoint.application_id == application_id)
    if owner is not None:
        none = Endpoint.application_id.is_(None)
        query = query.where(none if owner == "organization" else ~none)
    return rows.every(scope.conn, query.order_by(Endpoint.id.desc()), EndpointRow)


def count(tx: Tx, org_id: str) -> int:
    """How many endpoints an organisation has; no other transaction adds one until this one ends."""
    tx.conn.execute(select(Organisation.id).where(Organisation.id == org_id).with_for_update())
    query = select(func.count()).where(Endpoint.org_id == org_id, Endpoint.style != CALLBACKS)
    return int(tx.conn.execute(query).scalar_one())


def insert_endpoint(tx: Tx, endpoint: EndpointRow) -> None:
    """Store an endpoint."""
    tx.conn.execute(insert(Endpoint), rows.values(endpoint))


def change(tx: Tx, endpoint_id: str, **values: Any) -> None:
    """Set columns of an endpoint."""
    tx.conn.execute(
        update(Endpoint).where(Endpoint.id == endpoint_id).values(**values | {"updated_at": tx.now})
    )


def remove(tx: Tx, endpoint_id: str) -> None:
    """Delete an endpoint."""
    tx.conn.execute(delete(Endpoint).where(Endpoint.id == endpoint_id))


def load(conn: Connection, ids: Iterable[str]) -> dict[str, EndpointRow]:
    """Endpoints and callback secrets by id, for the deliverer (no organisation asked)."""
    query = select(*_COLUMNS).where(Endpoint.id.in_(list(ids)))
    return {row.id: row for row in rows.every(conn, query, EndpointRow)}


def pace(tx: Tx, endpoint_id: str, until: float) -> None:
    """Note when the next call to an endpoint may begin."""
    tx.conn.execute(update(Endpoint).where(Endpoint.id == endpoint_id).values(paced_until=until))


def fail_since(tx: Tx, ids: Collection[str]) -> None:
    """These endpoints fail, from now on unless they did before."""
    if ids:
        _each(
            tx,
            ids,
            update(Endpoint).where(Endpoint.failing_since.is_(None)).values(failing_since=tx.now),
        )


def work_again(tx: Tx, ids: Collection[str]) -> None:
    """These endpoints took a delivery."""
    if ids:
        _each(
            tx,
            ids,
            update(Endpoint).where(Endpoint.failing_since.is_not(None)).values(failing_since=None),
        )


def _each(tx: Tx, ids: Collection[str], statement: Update) -> None:
    """In the order of their ids, so that two transactions cannot deadlock."""
    tx.conn.execute(statement.where(Endpoint.id == bindparam("key")), [{"key": id_} for id_ in sorted(ids)])


_CALLBACKS = text("""
INSERT INTO endpoints (id, org_id, style, url, events, payload_mode, secret, active, max_parallel, max_per_second,
                       created_at, updated_at)
VALUES (:id, :org_id, :style, '', '[]', 'full', :secret, :active, 10, 100, :now, :now)
ON CONFLICT (id) DO NOTHING
""")


def ensure_callbacks(tx: Tx, org_id: str, secret: bytes) -> None:
    """Give an organisation's callbacks a (sealed) secret, unless they have one."""
    row = {"id": callback_row(org_id), "org_id": org_id, "style": CALLBACKS, "secret": secret}
    tx.conn.execute(_CALLBACKS, row | {"active": False, "now": tx.now})


def callback_row(org_id: str) -> str:
    """The id of the row with the secret of an organisation's callbacks."""
    return f"callbacks_{org_id}"
