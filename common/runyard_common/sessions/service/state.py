"""State: what an attempt reads and writes of its session's values (of its task's, where it has no session). Fenced.

Each access is an entry of the journal, written in the same transaction: a replay gets what the run got, and a value is
changed once. Of two runs of a session the later write counts; what a run reads is what was written last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from runyard_common.database.group_commit import locks_tasks, own_transaction
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import journal
from runyard_common.runs.queries.transitions import lock, owns
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.runs.service import steps
from runyard_common.sessions.queries import sessions, state
from runyard_common.sessions.rules import state_scope
from runyard_common.values import bounds
from runyard_common.values.errors import Conflict, RunyardError, StaleFence

#: What the journal has for a value that is not there.
MISSING: Final[dict[str, Any]] = {"there": False}


class Op(StrEnum):
    """What is done to a value."""

    GET = "get"
    SET = "set"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Access:
    """One access of an attempt to a value, journaled as `step`."""

    task_id: str
    session_id: str | None
    fence: Fence
    step: Step
    op: Op
    name: str
    value: Any = None

    @property
    def scope(self) -> str:
        """Whose value it is."""
        return state_scope(self.session_id, self.task_id)


@locks_tasks
def read(tx: Tx, commands: Sequence[Access]) -> list[Any]:
    """What each access gives, as the journal has it: {there, value?}. Error: `StaleFence`."""
    heads = lock(tx, [c.task_id for c in commands])
    return [_access(tx, c, heads.get(c.task_id)) for c in commands]


@own_transaction
def change(tx: Tx, commands: Sequence[Access]) -> list[Any]:
    """The same of accesses that write. Errors: `Conflict` state_full, session_not_found; `StaleFence`."""
    state.lock(tx, [c.scope for c in commands])
    return read(tx, commands)


def _access(tx: Tx, command: Access, head: Head | None) -> dict[str, Any] | RunyardError:
    if head is None or not owns(head, command.fence):
        return StaleFence(task_id=command.task_id, attempt=command.fence.attempt)
    key = command.step.key
    if (head.id, key) in journal.written(tx, [(head.id, key, command.fence.attempt)]):
        return dict(journal.values(tx.conn, head.id, [key])[key])  # only the answer was lost
    try:
        found = _done(tx, command, head)
    except RunyardError as refusal:
        return refusal
    refused = steps.end(tx, [steps.End(head.id, command.fence, command.step, found)])[0]
    return found if refused is None else refused


def _done(tx: Tx, command: Access, head: Head) -> dict[str, Any]:
    if command.op is Op.GET:
        value, there = state.get(tx.conn, command.scope, command.name)
        return {"there": True, "value": value} if there else MISSING
    if command.op is Op.DELETE:
        return {"there": state.remove(tx, command.scope, command.name)}
    _refuse_too_much(tx, command)
    if command.session_id is not None and sessions.get(tx.scope(head.org_id), command.session_id) is None:
        raise Conflict("The session of this run was deleted.", code="session_not_found")
    state.put(tx, head.org_id, command.scope, command.name, command.value)
    return {"there": True}


def _refuse_too_much(tx: Tx, command: Access) -> None:
    count, size = state.size(tx.conn, command.scope, command.name)
    if count >= bounds.STATE_VALUES.most:
        raise Conflict(
            f"There are {bounds.STATE_VALUES.most:,} values already, the most there may be. Delete some.",
            code="state_full",
        )
    if size + state.length(command.value) > bounds.STATE_BYTES.most:
        raise Conflict(
            f"The values would have more than {bounds.STATE_BYTES.most:,} bytes together. Delete some, or keep large "
            "data in a file.",
            code="state_full",
        )
