"""The steps of a run, with their times: what the console draws."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import ROOTED, NativeRoutes, Parameters, when
from runyard_api.native.runs.tasks import task_id
from runyard_common.runs.rules.journal import INSIDE, TimedEntry
from runyard_common.sessions.service import recordings

routes = NativeRoutes("tasks")
#: Arguments and results of more bytes are left out of a page.
_SHOWN: Final = 8 * 1024


class StepParameters(Parameters):
    """Which steps."""

    after: int = Field(
        0, ge=0, le=2**31 - 1, description="Steps behind this position: `next_after` of a page."
    )
    limit: int = Field(100, ge=1, le=500, description="How many at most.")


class Step(schemas.Shape):
    """A recorded unit of work of a run."""

    key: str = Field(description="Its name within the run, which `from_step` of a retry takes.")
    pos: int = Field(description="Its place in the order in which steps began.")
    kind: str = Field(description="step, model, tool, child, value, ...")
    name: str
    effect: str = Field(description="read, idempotent or irreversible.")
    attempt: int = Field(
        description="The attempt that did it; 0: taken over from the run that this one repeats."
    )
    state: str = Field(description="begun, done or failed.")
    inside: str | None = Field(description="The key of the step that it is a part of.")
    began_at: str
    ended_at: str | None
    detail: Any = Field(
        description=f"What it was called with; null where that is larger than {_SHOWN} bytes."
    )
    detail_bytes: int
    value: Any = Field(description=f"What it gave; null where that is larger than {_SHOWN} bytes.")
    value_bytes: int


class StepPage(schemas.Shape):
    """A page of steps, in the order in which they began."""

    data: list[Step]
    has_more: bool
    next_after: int


@routes.get(
    "/tasks/{task_id}/steps",
    "runs:read",
    prefixes=ROOTED,
    query=StepParameters,
    answers=[Answer(200, "A page of steps.", StepPage)],
)
async def list_steps(call: Call) -> Response:
    """List a task's steps, model turns and tool calls with their times.

    Only for agents of the caller's own organisation, as the journal: GET /tasks/{task_id}/journal has the values that
    are too large for this list. Credentials of the request are not in it.
    """
    given = call.query(StepParameters)
    found = await call.read(
        recordings.steps, task_id(call), given.after, given.limit + 1, _SHOWN, call.state.sealer
    )
    shown = found[: given.limit]
    body = {
        "data": [_step(one) for one in shown],
        "has_more": len(found) > given.limit,
        "next_after": shown[-1].pos if shown else given.after,
    }
    return reply(body)


def _step(one: TimedEntry) -> dict[str, Any]:
    detail = one.detail if isinstance(one.detail, dict) else {}
    names = (
        "key", "pos", "kind", "name", "effect", "attempt", "state", "detail", "detail_bytes", "value", "value_bytes",
    )  # fmt: skip
    times = {"began_at": when(one.began_at), "ended_at": when(one.ended_at)}
    return {name: getattr(one, name) for name in names} | times | {"inside": detail.get(INSIDE)}
