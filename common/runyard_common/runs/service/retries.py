"""Retry by hand: an ended run is run again as a new task that names the old one and keeps what it had finished.

A terminal state is for ever, so a dead-letter requeue does not reopen the task. The new one gets a single
attempt, and copies the old journal: no finished step, and no paid token, is repeated.
"""

from __future__ import annotations

from dataclasses import replace

from runyard_common.agents.queries import agents
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.identity.queries import identity
from runyard_common.runs.queries import journal, tasks
from runyard_common.runs.rules.lifecycle import TERMINAL
from runyard_common.runs.rules.specs import AcceptedRun, AgentRef, CallbackTo, RunSpec
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import submissions
from runyard_common.sessions.queries import state
from runyard_common.sessions.rules import state_scope
from runyard_common.values.errors import Conflict, InvalidRequest, NotFound, RunyardError
from runyard_common.values.ids import uuid7
from runyard_common.webhooks.queries import callbacks


def retry(
    tx: Tx,
    org_id: str,
    task_id: str,
    by: str | None,
    fresh: bool = False,
    secrets: bytes | None = None,
    from_step: str | None = None,
    traceparent: str | None = None,
) -> AcceptedRun:
    """Run an ended task again; `fresh` forgets its journal and begins at the top, `from_step` (the key of an entry)
    forgets that step and what came after it.

    Its credentials were erased when it ended: `secrets` (sealed) gives new ones where it needs them.
    Errors: `NotFound`; `Conflict` not_ended, undone; `InvalidRequest` unknown_step; what `submit` refuses.
    """
    task = tasks.get(tx.scope(org_id), task_id)
    if task is None:
        raise NotFound("There is no such task.", code="task_not_found")
    if task.status not in TERMINAL:
        raise Conflict("Only an ended task can be retried; cancel it first.", code="not_ended")
    cut = _cut(tx, task, from_step) if from_step is not None else None
    accepted = submissions.submit(tx, [_spec(tx, task, by, secrets, traceparent)])[0]
    if isinstance(accepted, RunyardError):
        raise accepted
    if not fresh and task.ending is None:  # what was undone is done again
        journal.copy(tx, task.id, accepted.task_id, from_step)
        questions.copy_answered(tx, task.id, accepted.task_id, uuid7, cut)
        if task.session_id is None:  # what it has kept is its own
            state.copy(tx, state_scope(None, task.id), state_scope(None, accepted.task_id), cut)
    if by is not None:
        data = {"task_id": accepted.task_id, "fresh": fresh} | ({"from_step": from_step} if from_step else {})
        identity.audit(tx, org_id, by, "task.retry", task_id, data)
    return accepted


def _cut(tx: Tx, task: Task, from_step: str) -> float:
    """When the step began that the new run begins with."""
    if task.ending is not None:
        raise Conflict("This run has undone its steps: run it again from the top.", code="undone")
    found = journal.began(tx.conn, task.id, from_step)
    if found is None:
        raise InvalidRequest(
            f"The run has no such step. GET /tasks/{task.id}/steps lists its steps with their keys.",
            code="unknown_step",
            field="from_step",
        )
    return found[1]


def _spec(tx: Tx, task: Task, by: str | None, secrets: bytes | None, traceparent: str | None) -> RunSpec:
    agent = agents.get(tx.scope(task.org_id), task.agent_id)
    if agent is None:
        raise Conflict(f"The agent {task.agent_name} was deleted.", code="agent_deleted")
    ref = AgentRef(
        task.org_id,
        task.agent_id,
        task.version_id,
        task.agent_name,
        task.version,
        task.timeout_s,
        is_code=agent.kind == "python",
    )
    spec = RunSpec(
        task_id=uuid7(),
        org_id=task.org_id,
        agent=ref,
        front=task.front,
        input=_input(task),
        lane=task.lane,
        title=task.title,
        session_id=task.session_id,
        end_user_id=task.end_user_id,
        created_by=by,
        key_id=task.key_id,
        retry_of=task.id,
        model=task.model,
        priority=task.priority,
        secrets=secrets,
        callback=_callback(tx, task.id),
        meta=task.meta or {},
    )
    return replace(spec, attempts_left=1, traceparent=traceparent)


def _callback(tx: Tx, task_id: str) -> CallbackTo | None:
    """The new run's events go where those of the old one went."""
    found = callbacks.of_tasks(tx.conn, [task_id]).get(task_id)
    return CallbackTo(found.url, found.headers) if found and found.active else None


def _input(task: Task) -> dict[str, object]:
    """The old input with files listed under ids of their own: each task owns its rows, the bytes are shared."""
    given = dict(task.input or {})
    files = [file | {"id": uuid7()} for file in given.get("files") or ()]
    return given | ({"files": files} if files else {})
