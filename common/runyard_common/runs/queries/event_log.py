"""Writes events into tasks' logs, and notes them for the live stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard_common.database import rows
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.transaction import CommittedEvent, Tx
from runyard_common.tables.query import TaskEvent

_COLUMNS: Final = ("task_id", "seq", "type", "attempt", "data", "at")
_INSERT: Final = PreparedStatement(lambda postgres: rows.insert_of(TaskEvent, _COLUMNS))


def write(tx: Tx, events: Sequence[CommittedEvent]) -> None:
    """Write events that have their numbers."""
    _INSERT.send(tx.conn, *({name: getattr(event, name) for name in _COLUMNS} for event in events))
    tx.events.extend(events)
