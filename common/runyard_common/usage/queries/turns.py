"""What a model turn needs to know before it starts: what its task has cost, and what its organisation has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Message, Organisation, Task


@dataclass(frozen=True, slots=True)
class Standing:
    """Millionths of a USD: spent by the task, and left to its organisation (None: it has no balance)."""

    spent_micros: int
    balance_micros: int | None


def standings(tx: Tx, task_ids: Sequence[str]) -> dict[str, Standing]:
    """How each task stands."""
    query = (
        select(Task.id, Task.cost_micros, Organisation.balance_micros)
        .join(Organisation, Organisation.id == Task.org_id, isouter=True)
        .where(Task.id.in_(list(task_ids)))
    )
    return {row.id: Standing(int(row.cost_micros), row.balance_micros) for row in tx.conn.execute(query)}


def with_mail(tx: Tx, task_ids: Sequence[str]) -> set[str]:
    """Those of these tasks that have unread messages."""
    query = select(Message.task_id).where(Message.task_id.in_(list(task_ids)), Message.unread.is_(True))
    return set(tx.conn.execute(query.distinct()).scalars())
