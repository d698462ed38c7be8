"""For operators: the backlog, the workers, the dead letters, the audit log."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import Principal
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Paging, page, when
from runyard_api.native.runs.task_view import brief
from runyard_common.identity.rules.roles import Role
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.queries.workers import Worker
from runyard_common.runs.service import queues
from runyard_common.values.errors import Forbidden

routes = NativeRoutes("ops")


def is_operator(call: Call, who: Principal) -> bool:
    """Whether the caller runs this installation: an admin of its first organisation."""
    return who.org_id == call.state.org_id and who.role in (Role.OWNER, Role.ADMIN)


class QueueView(schemas.Shape):
    """The work there is, and how many workers it asks for."""

    waiting: int
    running: int
    queued: int
    waiting_for_input: int
    awaiting_review: int
    oldest_waiting_s: float
    workers: int
    capacity: int
    wanted_workers: int
    without_worker: int = Field(description="Pending runs whose agent no live worker has.")
    loop_lag_s: float
    threads_held: int
    scope: str


@routes.get("/ops/queue", "ops:read", answers=[Answer(200, "The backlog.", QueueView)])
async def queue(call: Call) -> Response:
    """Report the backlog, and how many workers it would take: the signal to scale by.

    The operator sees every organisation's work summed up, others their own.
    """
    mine = None if is_operator(call, call.principal) else call.org_id
    per_worker = call.state.settings.worker_concurrency
    db = call.state.db
    found = await call.state.reader.one(lambda conn: queues.backlog(conn, db.now(conn), per_worker, mine))
    return reply(found.to_json() | {"scope": "organisation" if mine else "installation"})


class WorkerView(schemas.Shape):
    """A worker process."""

    id: str
    host: str
    pid: int
    capacity: int
    running: int
    loop_lag_s: float
    threads_held: int
    agents: list[str] | None = Field(description="Python agents it runs (name@version); null: not known.")
    resumes: list[str] | None = Field(
        description="Those (name@version) whose runs it carries on once no worker has them; null: none."
    )
    state: str
    started_at: str
    seen_at: str


class WorkerList(schemas.Shape):
    """The worker processes."""

    data: list[WorkerView]


@routes.get("/ops/workers", "ops:read", answers=[Answer(200, "The worker processes.", WorkerList)])
async def list_workers(call: Call) -> Response:
    """List the worker processes; for the operator only."""
    if not is_operator(call, call.principal):
        raise Forbidden("The workers are the operator's.", code="operator_only")
    db = call.state.db
    rows, now = await call.state.reader.one(lambda conn: (workers.every(conn), db.now(conn)))
    return reply({"data": [_worker(row, now) for row in rows]})


_REPORTED = (
    "id",
    "host",
    "pid",
    "capacity",
    "running",
    "loop_lag_s",
    "threads_held",
    "agents",
    "resumes",
    "lease_seconds",
)


def _worker(worker: Worker, now: float) -> dict[str, Any]:
    state = "lost" if not worker.is_alive(now) else "draining" if worker.draining else "alive"
    return {name: getattr(worker, name) for name in _REPORTED} | {
        "state": state,
        "started_at": when(worker.started_at),
        "seen_at": when(worker.seen_at),
        "lease_expires_at": when(worker.lease_expires_at),
    }


@routes.get(
    "/ops/dead",
    "ops:read",
    query=Paging,
    answers=[Answer(200, "A page of failed tasks, with why.", schemas.TaskPage)],
)
async def dead_letters(call: Call) -> Response:
    """List the dead letters: failed tasks, newest first. POST /tasks/{id}/retry gives one more try."""
    given = call.query(Paging)
    rows = await call.read(tasks.failed_page, given.limit + 1, given.before)
    items = [
        brief(t)
        | {
            "error": t.error,
            "attempt": t.attempt,
            "retries": t.retries or {},
            "finished_at": when(t.finished_at),
        }
        for t in rows
    ]
    return reply(page(items, given.limit, [t.id for t in rows], rows.more))
