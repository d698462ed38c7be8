"""Ended tasks and everything that exists because of them, deleted for good."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import JournalEntry, Message, Question, Slot, StoredFile, Task, TaskEvent
from runyard_common.webhooks.queries import callbacks, delivery_log


def ended_of_agent(tx: Tx, org_id: str, agent_id: str, limit: int) -> list[str]:
    """Ids of ended tasks of an agent, locked."""
    query = select(Task.id).where(
        Task.org_id == org_id, Task.agent_id == agent_id, Task.finished_at.is_not(None)
    )
    return list(tx.conn.execute(query.order_by(Task.id).limit(limit).with_for_update()).scalars())


def remove(tx: Tx, task_ids: Sequence[str]) -> None:
    """Delete these tasks with their events, journal, questions, messages, files' rows and deliveries.

    What their model turns used stays: it is the organisation's bill.
    """
    if not task_ids:
        return
    delivery_log.forget(tx, task_ids)
    callbacks.forget(tx, task_ids)
    for table in (TaskEvent, JournalEntry, Question, Message, Slot, StoredFile):
        tx.conn.execute(delete(table).where(table.task_id.in_(task_ids)))
    tx.conn.execute(delete(Task).where(Task.id.in_(task_ids)))
