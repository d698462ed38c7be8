"""Events from outside: sent to a run, to the runs of a session, or to all that wait for a name and a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.service import caps
from runyard_common.runs.queries import events, journal, queued, tasks, waits
from runyard_common.runs.queries.journal import StepEnd
from runyard_common.runs.queries.transitions import lock
from runyard_common.runs.queries.waits import EventWait, SentEvent
from runyard_common.runs.rules.blocked_by import RESUME
from runyard_common.runs.rules.lifecycle import TERMINAL, Status
from runyard_common.runs.rules.tasks import Head
from runyard_common.runs.service.waits import locked_as
from runyard_common.sessions.queries import sessions
from runyard_common.values.errors import Conflict, NotFound
from runyard_common.values.ids import uuid7

#: How long an event is kept for runs that wait for it later, in seconds.
KEPT_S: Final = 86_400.0
#: What the log of a run has for an event that it got.
RECEIVED: Final = "event_received"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to send: to one of a task, a session and a key, or else to all that wait for the name alone."""

    name: str
    data: Any = None
    task_id: str | None = None
    session_id: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that is stored, and the tasks that waited for it."""

    event: SentEvent
    task_ids: list[str]


def send(tx: Tx, org_id: str, new: NewEvent, by: str) -> Sent:
    """Store an event and give it to each run that waits for it, once.

    A run that begins to wait within `KEPT_S` gets it too, if it was accepted before. Errors: `NotFound` task_not_found,
    session_not_found; `Conflict` task_ended, too_many_sent_events.
    """
    address = _address(tx, org_id, new)
    caps.check(tx, org_id, "sent_events")
    advisory.lock(tx, [locked_as(org_id, new.name)])
    event = SentEvent(uuid7(), org_id, new.name, address, new.data, by, tx.now, tx.now + KEPT_S)
    waits.keep(tx, event)
    waiting = waits.waiting_for(tx.conn, event)
    heads = lock(tx, [wait.task_id for wait in waiting])
    waiting = [
        wait for wait in waiting if wait.task_id in heads and heads[wait.task_id].status not in TERMINAL
    ]
    _deliver(tx, event, waiting, heads)
    identity.audit(tx, org_id, by, "event.send", event.id, {"name": new.name, "to": address or None})
    return Sent(event, [wait.task_id for wait in waiting])


def _address(tx: Tx, org_id: str, new: NewEvent) -> str:
    if new.task_id is not None:
        task = tasks.get(tx.scope(org_id), new.task_id)
        if task is None:
            raise NotFound("There is no such task.", code="task_not_found", field="task_id")
        if task.status in TERMINAL:
            raise Conflict("The task has ended: it waits for no event.", code="task_ended", field="task_id")
        return f"task:{task.id}"
    if new.session_id is not None:
        scope = tx.scope(org_id)
        session = sessions.get(scope, new.session_id) or sessions.find(scope, new.session_id)
        if session is None:
            raise NotFound("There is no such session.", code="session_not_found", field="session_id")
        return f"session:{session.id}"
    return f"key:{new.key}" if new.key is not None else ""


def _deliver(tx: Tx, event: SentEvent, waiting: Sequence[EventWait], heads: dict[str, Head]) -> None:
    value = {"id": event.id, "data": event.data}
    journal.end_many(tx, [StepEnd(wait.task_id, wait.key, value) for wait in waiting])
    data = {"id": event.id, "name": event.name, "to": event.address or None}
    if waiting:
        events.append(tx, heads, [(wait.task_id, RECEIVED, data) for wait in waiting])
    for wait in waiting:
        waits.close_wait(tx, wait.task_id, wait.key, event.id)
    queued_ids = [wait.task_id for wait in waiting if heads[wait.task_id].status is Status.QUEUED]
    ready = []
    for task in waits.queued_with_parts(tx.conn, queued_ids):
        keys = [wait.key for wait in waiting if wait.task_id == task.id]
        complete = [waits.complete(tx, task.id, place) for place in waits.arrived(tx, task.id, keys)]
        if any(complete):
            ready.append(task.id)
    if ready:
        queued.resume(tx, ready)
        tx.freed.add(RESUME)
