"""The delivery outbox: written in the transaction of the change that the deliveries report, with its body.

The words of a body are those of the receiver's API surface (`runyard_common.surfaces`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select

from runyard_common import surfaces
from runyard_common.database import rows
from runyard_common.database.prepared import ByKeys
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.lifecycle import TERMINAL, Event
from runyard_common.runs.rules.tasks import Head, Task
from runyard_common.tables.query import ApiKey, Delivery, Endpoint, TaskEvent
from runyard_common.values.ids import token, uuid7
from runyard_common.values.json_text import JsonObject
from runyard_common.webhooks.queries import callbacks
from runyard_common.webhooks.queries.callbacks import CallbackRow
from runyard_common.webhooks.rules import callback_events
from runyard_common.webhooks.rules.payloads import WebhookEvent
from runyard_common.webhooks.rules.receivers import callback_receiver, host_of
from runyard_common.webhooks.rules.webhook_events import wants

#: Deliveries that one entry of a task's log can make for one receiver.
_PER_ENTRY = 8


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to be written; the columns are explained in `runyard_common.webhooks.tables.Delivery`."""

    org_id: str
    endpoint_id: str | None
    receiver: str
    task_id: str | None
    event_id: str
    event_type: str
    order_key: str
    order_seq: int
    url: str
    body: str


@dataclass(frozen=True, slots=True)
class Listener:
    """An active endpoint, as far as it matters to what is sent to it."""

    id: str
    org_id: str
    application_id: str | None
    style: str
    url: str
    events: list[str] | None
    agent_id: str | None
    payload_mode: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry just written to a task's log."""

    head: Head
    event: Event | None  # None: no change of state
    type: str
    data: JsonObject


@dataclass(frozen=True, slots=True)
class _Target:
    """Where deliveries go, and what they wait behind."""

    endpoint_id: str | None
    receiver: str
    order_key: str
    url: str


def enqueue(
    tx: Tx,
    entries: Sequence[tuple[Head, Event | str, JsonObject]],
    listeners: Mapping[str, Sequence[Listener]] | None = None,
) -> None:
    """Write a delivery for every callback and endpoint that these log entries are for.

    Each entry is a head as it is after the entry, the `Event` of a change of state or the type of what an agent
    reported, and its data. `listeners` are the endpoints by organisation, where this transaction has checked that its
    memory of them counts; else one indexed query looks for them.
    """
    logged = [_Entry(h, e if isinstance(e, Event) else None, str(e), d) for h, e, d in entries]
    if listeners is None:
        listeners = _listeners_of(tx, [entry for entry in logged if entry.event is not None])
    called = callbacks.of_tasks(tx.conn, {entry.head.id for entry in logged if entry.head.has_callback})
    if not any(listeners.values()) and not called:
        return
    wanted = {e.head.id for e in logged if listeners.get(e.head.org_id) or e.head.id in called}
    loaded = tasks.load(tx.conn, wanted)
    keys = _applications(tx, logged, listeners)
    spoken = _spoken(tx, [e.head.id for e in logged if e.event is Event.FINISH and e.head.id in called])
    made: list[NewDelivery] = []
    for entry in logged:
        head = entry.head
        if head.id not in loaded:
            continue
        task = replace(loaded[head.id], status=head.status, attempt=head.attempt)
        callback = called.get(head.id)
        if callback is not None and callback.active:
            made += _to_callback(tx, entry, task, callback, head.id in spoken)
        if entry.event is not None:
            for endpoint in listeners.get(head.org_id, ()):
                made += _to_endpoint(tx, entry, task, endpoint, keys)
    if made:
        add(tx, made, waiting_until(tx, {delivery.order_key for delivery in made}))


def _listeners_of(tx: Tx, changes: Sequence[_Entry]) -> dict[str, list[Listener]]:
    """The active endpoints of the organisations these changes belong to."""
    orgs = {change.head.org_id for change in changes if change.head.listened}
    found: dict[str, list[Listener]] = {}
    for listener in _active(tx.conn, orgs) if orgs else ():
        found.setdefault(listener.org_id, []).append(listener)
    return found


def listeners(scope: OrgScope) -> list[Listener]:
    """The active endpoints of an organisation."""
    return _active(scope.conn, [scope.org_id])


def _active(conn: Connection, org_ids: Iterable[str]) -> list[Listener]:
    return [Listener(*row) for row in _ACTIVE.all(conn, sorted(org_ids))]


_ACTIVE: Final = ByKeys(
    Endpoint.org_id,
    lambda chosen: select(*rows.columns(Listener, Endpoint)).where(chosen, Endpoint.active.is_(True)),
)


def _applications(
    tx: Tx, entries: Sequence[_Entry], listeners: Mapping[str, Sequence[Listener]]
) -> dict[str, str]:
    """The applications whose keys made these tasks, by key; asked only where an endpoint is for one."""
    if not any(endpoint.application_id for its in listeners.values() for endpoint in its):
        return {}
    ids = {e.head.key_id for e in entries if e.head.key_id is not None}
    query = select(ApiKey.id, ApiKey.application_id).where(ApiKey.id.in_(sorted(ids)))
    return {row.id: row.application_id for row in tx.conn.execute(query) if row.application_id}


def _spoken(tx: Tx, task_ids: Sequence[str]) -> set[str]:
    """Those of these tasks whose log holds a message to the user."""
    if not task_ids:
        return set()
    query = select(TaskEvent.task_id).where(TaskEvent.task_id.in_(task_ids), TaskEvent.type == "message")
    return set(tx.conn.execute(query.distinct()).scalars())


def _to_endpoint(
    tx: Tx, entry: _Entry, task: Task, endpoint: Listener, applications: dict[str, str]
) -> list[NewDelivery]:
    assert entry.event is not None
    head = entry.head
    style = surfaces.webhooks(endpoint.style)
    if style is None:
        return []
    type_ = style.type_of(entry.event, head.status, head.attempt, task.error)
    if type_ is None or not wants(endpoint.events or (), type_):
        return []
    if endpoint.agent_id is not None and endpoint.agent_id != head.agent_id:
        return []
    if endpoint.application_id is not None and endpoint.application_id != applications.get(head.key_id or ""):
        return []
    event = _webhook_event(tx, entry, type_)
    body = style.render(task, event, endpoint.payload_mode)
    target = _Target(endpoint.id, endpoint.id, f"{endpoint.id}:{head.id}", endpoint.url)
    return [_delivery(entry, target, event.event_id, type_, body)]


def _to_callback(
    tx: Tx, entry: _Entry, task: Task, callback: CallbackRow, has_spoken: bool
) -> list[NewDelivery]:
    receiver = callback_receiver(entry.head.org_id, callback.url)
    target = _Target(None, receiver, f"cb:{task.id}", callback.url)
    event = _webhook_event(tx, entry, entry.type)
    if entry.event is None:
        made = callback_events.of_log(entry.type, entry.data)
    else:
        made = callback_events.of_change(entry.event, event, task, has_spoken)
    events = [(token("evt_") if place else event.event_id, body) for place, body in enumerate(made)]
    if entry.event is not None and entry.head.status in TERMINAL:
        last = token("evt_")
        events.append(
            (last, callback_events.completion(task, last, tx.now, surfaces.of(task.front).statuses))
        )
    return [
        _delivery(
            entry,
            target,
            event_id,
            str(body["type"]),
            callback_events.body_of(body, task.id, task.session_id),
            place,
        )
        for place, (event_id, body) in enumerate(events)
    ]


def _webhook_event(tx: Tx, entry: _Entry, type_: str) -> WebhookEvent:
    return WebhookEvent(token("evt_"), type_, entry.type, entry.head.last_seq, tx.now, entry.data)


def _delivery(
    entry: _Entry, target: _Target, event_id: str, type_: str, body: str, place: int = 0
) -> NewDelivery:
    """`place` numbers the deliveries that one entry makes for a receiver."""
    head, order_seq = entry.head, entry.head.last_seq * _PER_ENTRY + place
    return NewDelivery(
        org_id=head.org_id, endpoint_id=target.endpoint_id, receiver=target.receiver, task_id=head.id,
        event_id=event_id, event_type=type_, order_key=target.order_key, order_seq=order_seq, url=target.url, body=body,
    )  # fmt: skip


def add(
    tx: Tx, deliveries: Sequence[NewDelivery], not_before: Mapping[str, float] | None = None
) -> list[str]:
    """Insert deliveries, due now or when their order may go on (`not_before`); their ids. Deliverers are notified."""
    new: dict[str, Any] = {"state": "pending", "attempt": 0, "created_at": tx.now, "updated_at": tx.now}
    behind = not_before or {}
    made = [
        rows.values(delivery)
        | new
        | {
            "id": uuid7(),
            "host": host_of(delivery.url),
            "next_at": max(tx.now, behind.get(delivery.order_key, 0.0)),
        }
        for delivery in deliveries
    ]
    tx.conn.execute(insert(Delivery), made)
    tx.deliveries += len(made)
    return [str(row["id"]) for row in made]


def waiting_until(tx: Tx, order_keys: set[str]) -> dict[str, float]:
    """When the pending deliveries of these orders are tried again, where they wait for a retry.

    What comes behind them need not be looked at earlier. That it cannot overtake them is for the claim to see to.
    """
    query = (
        select(Delivery.order_key, func.max(Delivery.next_at).label("at"))
        .where(
            Delivery.order_key.in_(sorted(order_keys)),
            Delivery.state == "pending",
            Delivery.lease_owner.is_(None),
        )
        .group_by(Delivery.order_key)
    )
    return {row.order_key: row.at for row in tx.conn.execute(query)}
