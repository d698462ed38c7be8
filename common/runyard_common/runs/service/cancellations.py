"""Cancel tasks in any state, with their children, with or without a live worker."""

from __future__ import annotations

from collections.abc import Sequence

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.tasks import Head
from runyard_common.values.errors import RunyardError


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
