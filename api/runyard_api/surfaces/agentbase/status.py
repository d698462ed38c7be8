"""GET /agentbase/tasks/{taskId} and its result: a background run. At the root the native task answers."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.surfaces.agentbase.front import AgentbaseRoutes
from runyard_api.task_snapshot import snapshot
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.values.errors import NotFound
from runyard_common.values.ids import is_uuid
from runyard_common.values.models import Model
from runyard_common.webhooks.rules.payloads import when

routes = AgentbaseRoutes()

_PREFIXES: Final = ("/agentbase",)
StateName = Literal["queued", "running", "completed", "failed", "cancelled"]
_STATES: Final[dict[Status, StateName]] = {
    Status.PENDING: "queued",
    Status.QUEUED: "queued",
    Status.RUNNING: "running",
    Status.WAITING_FOR_INPUT: "running",
    Status.AWAITING_REVIEW: "running",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.STOPPED: "cancelled",
}


class AgentbaseTask(Model):
    """A background run."""

    taskId: str  # noqa: N815
    status: StateName
    state: StateName
    progress: float = Field(description="0 before it runs, 1 once it is over, 0.5 between.")
    session: str | None
    error: str | None
    timestamp: str


class AgentbaseResult(AgentbaseTask):
    """A background run with its output."""

    result: Any = Field(description="null until it has completed.")


@routes.get(
    "/tasks/{task_id}",
    "runs:read",
    prefixes=_PREFIXES,
    answers=[Answer(200, "The run.", AgentbaseTask)],
    errors=(404,),
)
async def get_status(call: Call) -> Response:
    """Read the status of a background run."""
    return reply(_view(await _task(call)))


@routes.get(
    "/tasks/{task_id}/result",
    "runs:read",
    prefixes=_PREFIXES,
    answers=[Answer(200, "The run and its output.", AgentbaseResult)],
    errors=(404,),
)
async def get_result(call: Call) -> Response:
    """Read the output of a background run."""
    task = await _task(call)
    return await call.reply_with([task], lambda: _view(task) | {"result": task.output})


async def _task(call: Call) -> Task:
    given = call.params["task_id"]
    if not is_uuid(given):
        raise NotFound("There is no such task.", code="task_not_found", field="taskId")
    return (await snapshot(call.state, call.org_id, given.lower())).task


def _view(task: Task) -> dict[str, Any]:
    state = _STATES[task.status]
    error = (task.error or {}).get("message") if state in ("failed", "cancelled") else None
    return {
        "taskId": task.id,
        "status": state,
        "state": state,
        "progress": {"queued": 0.0, "running": 0.5}.get(state, 1.0),
        "session": task.session_id,
        "error": error,
        "timestamp": when(task.updated_at),
    }
