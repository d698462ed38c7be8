"""What the spans of runs that end are made of; read only where traces are recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from runyard_common import tracing
from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.tasks import Fence
from runyard_common.runs.rules.tasks import Task as Run
from runyard_common.tables.query import Task, TaskEvent
from runyard_common.tracing.wake_ups import ReadyRun


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended. Times are epoch seconds."""

    id: str
    traceparent: str | None
    org_id: str
    agent_id: str
    agent_name: str
    version: str
    status: str
    front: str
    session_id: str | None
    parent_id: str | None
    model: str | None
    attempt: int
    retries: Mapping[str, int] | None
    error: Mapping[str, Any] | None
    usage: Mapping[str, Any] | None
    cost_micros: int
    created_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt whose process is gone, and writes no span of it. Times are epoch seconds."""

    id: str
    traceparent: str | None
    agent_name: str
    attempt: int
    worker: str | None
    loss: str
    began_at: float
    lost_at: float


def note_ended(tx: Tx, task_ids: Iterable[str]) -> None:
    """These runs have ended in this transaction: their spans are written once it has committed."""
    if tracing.active() is None:
        return
    query = select(*rows.columns(EndedRun, Task)).where(Task.id.in_(list(task_ids)))
    tx.over += [EndedRun(**row._mapping) for row in tx.conn.execute(query)]


def note_lost(tx: Tx, lost: Mapping[str, Fence], loss: str) -> None:
    """The processes of these attempts are gone: who hands their runs on writes the spans that they would have."""
    if tracing.active() is None or not lost:
        return
    claimed = (
        select(Task.id, Task.traceparent, Task.agent_name, Task.attempt, TaskEvent.data, TaskEvent.at)
        .join(TaskEvent, (TaskEvent.task_id == Task.id) & (TaskEvent.attempt == Task.attempt))
        .where(Task.id.in_(list(lost)), TaskEvent.type == Event.CLAIM.value)
    )
    tx.over += [
        LostAttempt(
            row.id, row.traceparent, row.agent_name, row.attempt, row.data.get("worker"), loss, row.at, tx.now
        )
        for row in tx.conn.execute(claimed)
        if lost[row.id].attempt == row.attempt
    ]


def note_submitted(tx: Tx, submitted: Iterable[Run]) -> None:
    """Workers may claim these new runs once it has committed."""
    if tracing.active() is None:
        return
    tx.over += [
        ReadyRun(run.id, run.traceparent, run.agent_name, Event.SUBMIT.value, tx.now) for run in submitted
    ]


def note_ready(tx: Tx, events: Mapping[str, str]) -> None:
    """Workers may claim these runs, by id, again or for the first time, through these events."""
    if tracing.active() is None or not events:
        return
    for id_, (traceparent, agent) in runs(tx.conn, events).items():
        tx.over.append(ReadyRun(id_, traceparent, agent, events[id_], tx.now))


def runs(conn: Connection, task_ids: Collection[str]) -> dict[str, tuple[str | None, str]]:
    """What the traces of these runs follow from besides their ids: what asked for them, and their agents."""
    query = select(Task.id, Task.traceparent, Task.agent_name).where(Task.id.in_(list(task_ids)))
    return {row.id: (row.traceparent, row.agent_name) for row in conn.execute(query)}
