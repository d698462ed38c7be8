"""Tool calls that a run's log shows as begun and not as ended: what ends the run ends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, select

from runyard_common.database import pages
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.tables.query import TaskEvent

CALL: Final = "tool_call"
RESULT: Final = "tool_result"
_TYPES: Final = (CALL, RESULT)
#: Lines of work within a run that number their turns separately.
_LINES: Final = ("workflow", "step", "phase")
_KEPT: Final = ("turn", "id", "tool", *_LINES)
_AT_ONCE: Final = 200
_IDS_AT_ONCE: Final = 500

Data = dict[str, Any]


def of(conn: Connection, task_ids: Iterable[str], now: float) -> dict[str, list[Data]]:
    """The open calls of these tasks, oldest first, each as the beginning of the entry that ends it.

    Costs one query without any data for tasks that have none.
    """
    counts: Counter[str] = Counter()
    ids = sorted(set(task_ids))
    for start in range(0, len(ids), _IDS_AT_ONCE):
        query = select(TaskEvent.task_id, TaskEvent.type).where(
            TaskEvent.task_id.in_(ids[start : start + _IDS_AT_ONCE]), TaskEvent.type.in_(_TYPES)
        )
        for row in conn.execute(query):
            counts[row.task_id] += 1 if row.type == CALL else -1
    return {id_: _open(conn, id_, number, now) for id_, number in counts.items() if number > 0}


def _open(conn: Connection, task_id: str, number: int, now: float) -> list[Data]:
    """So many open calls, looked for from the newest entry backwards: they belong to the last turns."""
    found: list[Data] = []
    ended: Counter[tuple[Any, ...]] = Counter()
    before: int | None = None
    while len(found) < number:
        query = select(TaskEvent.seq, TaskEvent.type, TaskEvent.data, TaskEvent.at).where(
            TaskEvent.task_id == task_id, TaskEvent.type.in_(_TYPES)
        )
        query = query if before is None else query.where(TaskEvent.seq < before)
        rows = pages.bounded(conn, query.order_by(TaskEvent.seq.desc()).limit(_AT_ONCE), "seq", ("data",))
        if not rows:
            break
        for row in rows:
            data, before = row.data or {}, row.seq
            key = tuple(data.get(name) for name in _KEPT if name != "tool")
            if row.type == RESULT:
                ended[key] += 1
            elif ended[key]:
                ended[key] -= 1
            else:
                seconds = round(max(0.0, now - row.at), 3)
                found.append({name: data[name] for name in _KEPT if name in data} | {"seconds": seconds})
    return found[::-1]


def ended_with(call: Data, event: Event, error: Mapping[str, Any] | None) -> Data:
    """The data of the entry that ends an open call, because its run was stopped, failed or expired."""
    error = error or {}
    outcome, verb = ("stopped", "was stopped") if event is Event.CANCEL else ("failed", "ended")
    reason = str(error.get("message") or "").strip()
    text = (
        f"The run {verb} before this call did"
        if event is not Event.CANCEL
        else f"The run {verb} during this call"
    )
    result = f"{text}: {reason}" if reason else f"{text}."
    return call | {"outcome": outcome, "result": result, "code": error.get("code") or event.value}
