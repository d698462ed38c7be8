"""Messages that users sent to a running task, taken in by the attempt that owns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard_common.database.group_commit import locks_tasks
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import journal
from runyard_common.runs.queries.transitions import lock, owns
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.tasks import Fence
from runyard_common.runs.service import steps
from runyard_common.sessions.queries import messages
from runyard_common.values.errors import RunyardError, StaleFence


@dataclass(frozen=True, slots=True)
class ReadMessages:
    """An attempt asks for its unread messages, to be journaled under `key` at `pos`."""

    task_id: str
    fence: Fence
    key: str
    pos: int


@locks_tasks
def read_messages(tx: Tx, commands: Sequence[ReadMessages]) -> list[list[Any] | RunyardError]:
    """The unread messages of each task, marked as read and journaled in one: a crash, or a caller that is gone
    when the answer comes, loses none. `StaleFence` for an attempt that is over."""
    heads = lock(tx, (c.task_id for c in commands))
    known = journal.written(tx, [(c.task_id, c.key, c.fence.attempt) for c in commands])
    answers: list[list[Any] | RunyardError] = []
    for c in commands:
        if not owns(heads.get(c.task_id), c.fence):
            answers.append(StaleFence(task_id=c.task_id, attempt=c.fence.attempt))
        elif (c.task_id, c.key) in known:  # committed before: only the answer was lost
            entries = journal.load(tx.conn, [c.task_id])[c.task_id]
            answers.append(next(list(entry.value) for entry in entries if entry.key == c.key))
        else:
            found = messages.read_unread(tx, c.task_id)
            step = Step(c.key, "value", "messages", "read", pos=c.pos)
            entry = steps.End(c.task_id, c.fence, step, found)
            refused = steps.end(tx, [entry])[0]
            answers.append(found if refused is None else refused)
    return answers
