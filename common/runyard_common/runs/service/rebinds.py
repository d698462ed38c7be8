"""Rebind: a worker resumes a run with the code of another version, to which the run is bound from here on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select, update

from runyard_common.database.group_commit import locks_tasks
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import events
from runyard_common.runs.queries.transitions import lock, owns
from runyard_common.runs.rules.specs import versioned
from runyard_common.runs.rules.tasks import Fence
from runyard_common.tables.query import Task
from runyard_common.values.errors import RunyardError, StaleFence

#: The event of a run that goes on with the code of another version: {from, to}.
REBIND: Final = "rebind"


@dataclass(frozen=True, slots=True)
class Rebind:
    """A run that its worker executes with the code of `version`."""

    task_id: str
    fence: Fence
    agent: str  # @scope/name
    version_id: str
    version: str


@locks_tasks
def rebind(tx: Tx, commands: Sequence[Rebind]) -> list[RunyardError | None]:
    """Bind runs to the versions that carry them on, each with its event. Repeating it does nothing."""
    heads = lock(tx, (c.task_id for c in commands))
    answers: list[RunyardError | None] = []
    for c in commands:
        if not owns(heads.get(c.task_id), c.fence):
            answers.append(StaleFence(task_id=c.task_id, attempt=c.fence.attempt))
            continue
        before = _bind(tx, c)
        if before is not None:
            events.append(tx, heads, [(c.task_id, REBIND, {"from": before, "to": c.version})])
        answers.append(None)
    return answers


def began_with(scope: OrgScope, task_id: str) -> str | None:
    """The version that a run began with, where another one has resumed it since."""
    found = events.first(scope, task_id, (REBIND,))
    return found["data"]["from"] if found else None


def _bind(tx: Tx, command: Rebind) -> str | None:
    """The version that the run had before; None where it has this one already."""
    t = Task.__table__.c
    before: str = tx.conn.execute(select(t.version).where(t.id == command.task_id)).scalar_one()
    if before == command.version:
        return None
    required = versioned(command.agent, command.version)
    values = {"version": command.version, "version_id": command.version_id, "required_agent": required}
    tx.conn.execute(update(Task).where(Task.id == command.task_id).values(values))
    return before
