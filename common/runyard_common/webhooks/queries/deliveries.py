"""The delivery outbox: written in the transaction of the change that the deliveries report, with its body.

The words of a body are those of the receiver's API surface (`runyard_common.surfaces`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func, insert, select

from runyard_common import surfaces
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.lifecycle import TERMINAL, Event
from runyard_common.runs.rules.tasks import Head, Task
from runyard_common.tables.query import ApiKey, Delivery, Endpoint, TaskEvent
from runyard_common.values.ids import token, uuid7
from runyard_common.webhooks.queries import callbacks
from runyard_common.webhooks.rules import callback_events
from runyard_common.webhooks.rules.payloads import Happening
from runyard_common.webhooks.rules.receivers import callback_receiver, host_of
from runyard_common.webhooks.rules.webhook_events import wants

#: Deliveries that one entry of a task's log can make for one receiver.
_PER_ENTRY = 8
_ENDPOINT = (
    Endpoint.id,
    Endpoint.org_id,
    Endpoint.application_id,
    Endpoint.style,
    Endpoint.url,
    Endpoint.events,
    Endpoint.agent_id,
    Endpoint.payload_mode,
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry just written to a task's log."""

    head: Head
    event: Event | None  # None: no change of state
    type: str
    data: dict[str, Any]


def enqueue(tx: Tx, entries: Sequence[tuple[Head, Event | str, dict[str, Any]]]) -> None:
    """Write a delivery for every callback and endpoint that wants to hear of these log entries.

    Each entry is a head as it is after the entry, what happened (an `Event` for a change of state, a type for
    what an agent reported), and its data. Costs one indexed query where nobody listens.
    """
    wanted = [_Entry(h, e if isinstance(e, Event) else None, str(e), d) for h, e, d in entries]
    listeners = _listeners(tx, [w for w in wanted if w.event is not None])
    called = callbacks.of_tasks(tx.conn, {w.head.id for w in wanted if w.head.has_callback})
    if not listeners and not called:
        return
    told = {w.head.id for w in wanted if w.head.org_id in listeners or w.head.id in called}
    loaded = tasks.load(tx.conn, told)
    keys = _applications(tx, wanted, listeners)
    spoken = _spoken(tx, [w.head.id for w in wanted if w.event is Event.FINISH and w.head.id in called])
    rows: list[dict[str, Any]] = []
    for entry in wanted:
        head = entry.head
        if head.id not in loaded:
            continue
        task = replace(loaded[head.id], status=head.status, attempt=head.attempt)
        callback = called.get(head.id)
        if callback is not None and callback["active"]:
            rows += _callback_rows(tx, entry, task, callback, head.id in spoken)
        if entry.event is not None:
            for endpoint in listeners.get(head.org_id, ()):
                rows += _endpoint_rows(tx, entry, task, endpoint, keys)
    _write(tx, rows)


def _listeners(tx: Tx, changes: Sequence[_Entry]) -> dict[str, list[Any]]:
    """The active endpoints of the organisations these changes belong to."""
    orgs = {change.head.org_id for change in changes}
    if not orgs:
        return {}
    found: dict[str, list[Any]] = {}
    query = select(*_ENDPOINT).where(Endpoint.org_id.in_(sorted(orgs)), Endpoint.active.is_(True))
    for row in tx.conn.execute(query):
        found.setdefault(row.org_id, []).append(row)
    return found


def _applications(tx: Tx, entries: Sequence[_Entry], listeners: dict[str, list[Any]]) -> dict[str, str]:
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


def _endpoint_rows(
    tx: Tx, entry: _Entry, task: Task, endpoint: Any, applications: dict[str, str]
) -> list[dict[str, Any]]:
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
    event_id = token("evt_")
    happening = Happening(event_id, type_, entry.type, head.last_seq, tx.now, entry.data)
    body = style.render(task, happening, endpoint.payload_mode)
    order = f"{endpoint.id}:{head.id}"
    return [_row(tx, entry, 0, event_id, type_, endpoint.id, endpoint.id, order, endpoint.url, body)]


def _callback_rows(
    tx: Tx, entry: _Entry, task: Task, callback: dict[str, Any], has_spoken: bool
) -> list[dict[str, Any]]:
    head, url = entry.head, callback["url"]
    receiver = callback_receiver(head.org_id, url)

    def row(place: int, event_id: str, event: dict[str, Any]) -> dict[str, Any]:
        body = callback_events.body_of(event, task.id, task.session_id)
        return _row(
            tx, entry, place, event_id, str(event["type"]), None, receiver, f"cb:{task.id}", url, body
        )

    rows = []
    event_id = token("evt_")
    if entry.event is None:
        made = callback_events.of_log(entry.type, entry.data)
    else:
        happening = Happening(event_id, entry.type, entry.type, head.last_seq, tx.now, entry.data)
        made = callback_events.of_change(entry.event, happening, task, has_spoken)
    for place, event in enumerate(made):
        rows.append(row(place, event_id if place == 0 else token("evt_"), event))
    if entry.event is not None and head.status in TERMINAL:
        last = token("evt_")
        rows.append(
            row(
                len(made),
                last,
                callback_events.completion(task, last, tx.now, surfaces.of(task.front).statuses),
            )
        )
    return rows


def _row(
    tx: Tx,
    entry: _Entry,
    place: int,
    event_id: str,
    type_: str,
    endpoint_id: str | None,
    receiver: str,
    order_key: str,
    url: str,
    body: str,
) -> dict[str, Any]:
    return {
        "org_id": entry.head.org_id,
        "endpoint_id": endpoint_id,
        "receiver": receiver,
        "task_id": entry.head.id,
        "event_id": event_id,
        "event_type": type_,
        "order_key": order_key,
        "order_seq": entry.head.last_seq * _PER_ENTRY + place,
        "host": host_of(url),
        "url": url,
        "body": body,
    }


def _write(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    behind = waiting_until(tx, {row["order_key"] for row in rows})
    add(tx, [row | {"next_at": max(tx.now, behind.get(row["order_key"], 0.0))} for row in rows])


def add(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Insert deliveries, due now unless a row gives `next_at`; their ids. Deliverers are rung."""
    empty = {
        "state": "pending",
        "attempt": 0,
        "next_at": tx.now,
        "lease_owner": None,
        "lease_until": None,
        "status_code": None,
        "latency_ms": None,
        "error": None,
        "answer": None,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    whole = [{"id": uuid7()} | empty | row for row in rows]
    tx.conn.execute(insert(Delivery), whole)
    tx.promised += len(whole)
    return [str(row["id"]) for row in whole]


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
