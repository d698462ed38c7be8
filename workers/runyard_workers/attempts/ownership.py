"""Why runs are this worker's no more."""

from __future__ import annotations

from collections.abc import Sequence

from runyard_common.database.transaction import Store
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.tasks import Task
from runyard_workers.attempts.patience import AWAY
from runyard_workers.isolation.threads import in_engine_thread


async def reasons(store: Store, task_ids: Sequence[str]) -> dict[str, str]:
    """By task: `cancel` where it has ended, or is to be undone: no attempt goes on with it, and what it began elsewhere
    is to be ended; `lost` where it is another's now, or where the database cannot be asked."""
    try:
        return await in_engine_thread(_reasons, store, task_ids)
    except AWAY:
        return dict.fromkeys(task_ids, "lost")


def _reasons(store: Store, task_ids: Sequence[str]) -> dict[str, str]:
    with store.read() as conn:
        found = tasks.load(conn, list(task_ids))
    return {id_: "lost" if id_ in found and _goes_on(found[id_]) else "cancel" for id_ in task_ids}


def _goes_on(task: Task) -> bool:
    ending = task.ending
    return task.finished_at is None and (ending is None or task.attempt > ending["attempt"])
