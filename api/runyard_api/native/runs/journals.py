"""The journal of a task, to replay it against changed code."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import ROOTED, NativeRoutes, Parameters
from runyard_api.native.runs.tasks import task_id
from runyard_common.sessions.service import recordings

routes = NativeRoutes("tasks")
_FIRST_PAGE: Final = "On the first page only: "


class After(Parameters):
    """Where a page begins."""

    after: int = Field(0, ge=0, le=2**31 - 1, description="Entries behind this position: `next` of a page.")


class Journal(schemas.Shape):
    """A page of the recording of a run."""

    runyard_journal: int = Field(description="The number of the document's form.")
    entries: list[dict[str, Any]] = Field(description="Entries of the journal, in the order they began.")
    next: int | None = Field(description="`after` of the next page; null on the last one.")
    recorded_at: str | None = Field(None, description=f"{_FIRST_PAGE}when it was read.")
    task: dict[str, Any] | None = Field(None, description=f"{_FIRST_PAGE}the task.")
    history: list[dict[str, Any]] | None = Field(
        None, description=f"{_FIRST_PAGE}earlier lines of its session."
    )
    answers: list[dict[str, Any]] | None = Field(
        None, description=f"{_FIRST_PAGE}its questions and reviews that are closed."
    )
    children: dict[str, Any] | None = Field(None, description=f"{_FIRST_PAGE}ends of children, by id.")
    reported: int | None = Field(None, description=f"{_FIRST_PAGE}how many events its code has reported.")


@routes.get(
    "/tasks/{task_id}/journal",
    "runs:read",
    prefixes=ROOTED,
    query=After,
    answers=[Answer(200, "A page of the journal.", Journal)],
)
async def get_journal(call: Call) -> Response:
    """Read a task's journal, with all that its code was given.

    `runyard replay` runs changed code against it. Only for agents of the caller's own organisation: steps' results
    show what the code does. Credentials of the request are not in it; what steps have returned is, as it is.
    """
    given = call.query(After)
    return reply(await call.read(recordings.page, task_id(call), given.after, call.state.sealer))
