"""Cancel and expire: tasks of any status end with their children, with or without a live worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.lifecycle import Cause, Event
from runyard_common.runs.rules.tasks import Head
from runyard_common.runs.rules.tasks import Task as StoredTask
from runyard_common.tables.query import Task
from runyard_common.values.errors import RunyardError

_BATCH = 200
#: Seconds before its deadline at which no run begins again. A child, which has its parent's deadline, is ended by its
#: worker some milliseconds before, and would be the result of a call of a run that is out of time.
_NEARLY = 0.1
_LATE = ("deadline_exceeded", "Its deadline passed.", Cause.DEADLINE)


def cancel_tasks(
    tx: Tx, task_ids: Sequence[str], reason: str, by: str | None = None
) -> list[Head | RunyardError]:
    """Cancel these tasks and all that they started. A task that has ended already answers `IllegalTransition`.

    The worker that runs one is notified after the commit; from the commit on its writes are refused.
    """
    error = {"code": "stopped", "message": reason, "cause": None}
    data = {"reason": reason, "by": by}
    answers = move(tx, [Change(t, Event.CANCEL, data=data, values={"error": error}) for t in task_ids])
    below = tasks.children(tx.conn, [a.id for a in answers if isinstance(a, Head)])
    if below:
        cancel_tasks(tx, below, "its parent was stopped", by)
    return answers


def expire_unstarted(tx: Tx) -> int:
    """Fail tasks whose time to live passed before a worker claimed them; how many."""
    ids = _unfinished(tx.conn, Task.expires_at, tx.now, Task.started_at.is_(None))
    return _expire(tx, ids, "ttl_expired", "Its time to live passed before it could start.", Cause.LIMIT)


def expire_deadlines(tx: Tx) -> int:
    """Fail tasks whose deadline has passed, in any status; how many."""
    ids = _unfinished(tx.conn, Task.deadline_at, tx.now)
    return _expire(tx, ids, *_LATE)


def expire_late(tx: Tx, queued: Sequence[StoredTask]) -> list[StoredTask]:
    """Fail those of these tasks whose deadline has passed; the others. None of them starts for nothing."""
    soon = tx.now + _NEARLY
    late = [task.id for task in queued if task.deadline_at is not None and task.deadline_at <= soon]
    if not late:
        return list(queued)
    _expire(tx, late, *_LATE)
    return [task for task in queued if task.id not in late]


def _unfinished(conn: Connection, ends: Any, now: float, *conditions: Any) -> list[str]:
    """Tasks that ended before `now`, earliest first: the order is that of an index which has no others in it."""
    query = select(Task.id).where(Task.finished_at.is_(None), ends <= now, *conditions)
    return list(conn.execute(query.order_by(ends).limit(_BATCH)).scalars())


def _expire(tx: Tx, ids: list[str], code: str, message: str, cause: Cause) -> int:
    error = {"code": code, "message": message, "cause": cause.value}
    answers = move(
        tx, [Change(id_, Event.EXPIRE, data={"error": error}, values={"error": error}) for id_ in ids]
    )
    ended = [a.id for a in answers if isinstance(a, Head)]
    below = tasks.children(tx.conn, ended) if ended else []
    if below:
        cancel_tasks(tx, below, "its parent's time ran out")
    return len(ended)
