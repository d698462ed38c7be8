"""For operators: the backlog, the workers, the dead letters, the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from runyard_api.access.auth import Principal
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Paging, page, when
from runyard_api.native.runs.task_view import listed
from runyard_common.agents.service import fleet
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.roles import Role
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.queries.workers import Worker
from runyard_common.runs.service import queues
from runyard_common.values.errors import Forbidden
from runyard_common.values.json_text import JsonObject

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


class WorkerRun(schemas.Shape):
    """A run that a worker has under way."""

    task_id: str
    organisation_id: str
    agent: str
    started_at: str | None


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
    release: str | None = Field(
        description="What it runs, as its RUNYARD_RELEASE has it; null: an older release."
    )
    runs: list[WorkerRun] = Field(
        description="Those under way, the longest first; the first 1,000 of all workers."
    )
    state: str = Field(
        description="alive; draining: it claims no run; drained: and has none any more; lost: not heard of."
    )
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

    def look(conn: Connection) -> list[JsonObject]:
        now, holding = db.now(conn), _holding(conn)
        return [_worker(row, now, holding) for row in workers.every(conn)]

    return reply({"data": await call.state.reader.one(look)})


@routes.post(
    "/ops/workers/{worker_id}/drain",
    "ops:write",
    answers=[Answer(200, "The worker; it claims no run from now on.", WorkerView)],
    errors=(409,),
)
async def drain_worker(call: Call) -> Response:
    """Let a worker claim no more runs; for the operator only.

    Its runs go on to their ends. The process stays, idle, until it is stopped or resumed.
    """
    return await _order(call, draining=True)


@routes.post(
    "/ops/workers/{worker_id}/resume",
    "ops:write",
    answers=[Answer(200, "The worker; it claims runs again within seconds.", WorkerView)],
    errors=(409,),
)
async def resume_worker(call: Call) -> Response:
    """Let a drained worker claim runs again; for the operator only. One that is being stopped does not."""
    return await _order(call, draining=False)


async def _order(call: Call, draining: bool) -> Response:
    if not is_operator(call, call.principal):
        raise fleet.no_such_worker()
    return reply(await call.state.write(_change, call.org_id, call.params["worker_id"], draining, call.actor))


def _change(tx: Tx, org_id: str, worker_id: str, draining: bool, actor: str) -> JsonObject:
    row = fleet.order(tx, worker_id, draining)
    action = "worker.drain" if draining else "worker.resume"
    identity.audit(tx, org_id, actor, action, worker_id, {"host": row.host, "pid": row.pid})
    return _worker(row, tx.now, _holding(tx.conn))


_MOST_RUNS = 1000
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
    "release",
    "lease_seconds",
)


@dataclass(frozen=True, slots=True)
class _Holding:
    """What the workers have under way: how many runs each, and the longest of them."""

    counts: Mapping[str, int]
    runs: Mapping[str, list[JsonObject]]


def _holding(conn: Connection) -> _Holding:
    runs: dict[str, list[JsonObject]] = {}
    for run in workers.runs_under_way(conn, _MOST_RUNS):
        shown = {"task_id": run.id, "organisation_id": run.org_id, "agent": run.agent_name}
        runs.setdefault(run.lease_owner, []).append(shown | {"started_at": when(run.started_at)})
    return _Holding(workers.counts_under_way(conn), runs)


def _state(worker: Worker, now: float, holding: _Holding) -> str:
    if not worker.is_alive(now):
        return "lost"
    if not worker.draining:
        return "alive"
    return "draining" if holding.counts.get(worker.id) else "drained"


def _worker(worker: Worker, now: float, holding: _Holding) -> JsonObject:
    return {name: getattr(worker, name) for name in _REPORTED} | {
        "state": _state(worker, now, holding),
        "runs": holding.runs.get(worker.id, []),
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
    items = [listed(t) | {"error": t.error, "retries": t.retries or {}} for t in rows]
    return reply(page(items, given.limit, [t.id for t in rows], rows.more))
