"""What an organisation does to its own tasks: cancel and retry one, or all that match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from runyard_common.credentials.rules import documents
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import ACTIVE, Status
from runyard_common.runs.rules.tasks import Head, Task
from runyard_common.runs.service import retries
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.values import pointers
from runyard_common.values.errors import Conflict, NotFound, RunyardError

#: How many tasks one command changes at most.
MOST: Final = 500
RETRIABLE: Final = (Status.FAILED, Status.STOPPED)


@dataclass(frozen=True, slots=True)
class Changed:
    """What a command over many tasks did: who was changed, whom it was refused for and why, is there more. `left_out`:
    how many of those that match it has left as they are, up to `MOST`."""

    task_ids: list[str]
    refused: list[dict[str, Any]] = field(default_factory=list)
    has_more: bool = False
    left_out: int = 0


def cancel(tx: Tx, org_id: str, task_id: str, reason: str, by: str) -> Task:
    """Cancel a task; one that is stopped already stays so. The task after it.

    Errors: `NotFound` task_not_found, `IllegalTransition` for one that completed or failed.
    """
    task = _own(tx, org_id, task_id)
    if task.status is not Status.STOPPED:
        answer = cancel_tasks(tx, [task_id], reason, by)[0]
        if isinstance(answer, RunyardError):
            raise answer
        identity.audit(tx, org_id, by, "task.stop", task_id, {"reason": reason})
    return _own(tx, org_id, task_id)


def cancel_matching(tx: Tx, org_id: str, wanted: Filter, reason: str, by: str) -> Changed:
    """Cancel up to `MOST` unfinished tasks that match, newest first."""
    found, has_more = _matching(tx, org_id, wanted, tuple(ACTIVE))
    answers = cancel_tasks(tx, [task.id for task in found], reason, by)
    cancelled = [a.id for a in answers if isinstance(a, Head)]
    for task_id in cancelled:
        identity.audit(tx, org_id, by, "task.stop", task_id, {"reason": reason})
    return Changed(cancelled, [], has_more)


def retry_matching(tx: Tx, org_id: str, wanted: Filter, by: str, fresh: bool) -> Changed:
    """Run up to `MOST` failed or stopped tasks that match again, each as a new task.

    Those that another task repeats already are left out, unless `wanted` asks for them.
    """
    left_out = 0
    if wanted.retried is None:
        left_out = len(_matching(tx, org_id, replace(wanted, retried=True), RETRIABLE)[0])
        wanted = replace(wanted, retried=False)
    found, has_more = _matching(tx, org_id, wanted, RETRIABLE)
    made: list[str] = []
    refused: list[dict[str, Any]] = []
    for task in found:
        try:
            refuse_erased(tasks.load(tx.conn, [task.id])[task.id])  # one at a time: inputs can be large
            made.append(retries.retry(tx, org_id, task.id, by, fresh).task_id)
        except RunyardError as refusal:
            refused.append({"task_id": task.id, "code": refusal.code, "message": refusal.message})
    return Changed(made, refused, has_more, left_out)


def refuse_erased(task: Task) -> None:
    """`Conflict` credentials_erased when the task needs credentials that were erased when it ended."""
    pointers = [
        p for p in sealed_at((task.input or {}).get("options") or {}) if not p.startswith("/callback")
    ]
    if pointers:
        raise Conflict(
            "Its credentials were erased when it ended; send them again in credentials, by these pointers.",
            code="credentials_erased",
            field="credentials",
            pointers=pointers,
        )


def sealed_at(options: Mapping[str, Any]) -> list[str]:
    """JSON pointers to the credentials that `runs.prepare` has replaced in stored options, by their places."""
    headers = (options.get("callback") or {}).get("headers") or {}
    servers = documents.sealed_at({"mcp_servers": options.get("mcp_servers") or []})
    return servers + [f"/callback/headers/{pointers.escaped(name)}" for name in headers]


def _own(tx: Tx, org_id: str, task_id: str) -> Task:
    task = tasks.get(tx.scope(org_id), task_id)
    if task is None:
        raise NotFound("There is no such task.", code="task_not_found", field="task_id")
    return task


def _matching(tx: Tx, org_id: str, wanted: Filter, among: Sequence[Status]) -> tuple[list[Task], bool]:
    statuses = tuple(s for s in (wanted.statuses or among) if s in among)
    if not statuses:
        return [], False
    found = tasks.page(tx.scope(org_id), replace(wanted, statuses=statuses), MOST + 1)
    return found[:MOST], len(found) > MOST
