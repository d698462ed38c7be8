"""Cancel and retry tasks, one by one or all that match."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.access.auth import Principal, require
from runyard_api.http import request_body
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.paths import under
from runyard_api.native import schemas
from runyard_api.native.front import BASE, ROOTED, NativeRoutes
from runyard_api.native.runs.task_view import brief, hint, links
from runyard_api.native.runs.tasks import Filters, filter_of, task_id
from runyard_common import tracing
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.run_request import Strict
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import bulk, retries
from runyard_common.runs.service.bulk import Changed
from runyard_common.schedules.queries import schedules
from runyard_common.schedules.service import schedules as scheduled
from runyard_common.values.errors import InvalidRequest, NotFound

routes = NativeRoutes("control")


class CancelBody(Strict):
    """Why a task is cancelled."""

    reason: str | None = Field(None, max_length=500)


@routes.post(
    "/tasks/{task_id}/cancel",
    "runs:cancel",
    body=CancelBody,
    body_optional=True,
    prefixes=ROOTED,
    answers=[
        Answer(200, "The task, stopped.", schemas.TaskBrief),
        Answer(204, "The id was a schedule's; it is deleted."),
    ],
    errors=(403, 409),
)
async def cancel(call: Call) -> Response:
    """Cancel a task, or delete a schedule by its id.

    It is stopped when this answers, with or without a live worker; what still runs is cancelled, its
    children are cancelled too. A task that completed or failed before answers 409 illegal_transition.
    """
    body = await call.optional_json(CancelBody)
    reason = body.reason or "cancelled by a user"
    id_, actor = task_id(call), call.actor
    try:
        task = await call.write(bulk.cancel, id_, reason, actor)
    except NotFound:
        if await call.write(_cancel_schedule, id_, call.principal):
            return Response(status_code=204)
        raise
    return reply(brief(task) | {"message": hint(task.status, task.id)})


def _cancel_schedule(tx: Tx, org_id: str, id_: str, who: Principal) -> bool:
    """Whether the id was that of a schedule, which is deleted now."""
    if schedules.get(tx.scope(org_id), id_) is None:
        return False
    require(who, "schedules:delete")
    scheduled.remove(tx, org_id, id_, who.actor)
    return True


class RetryBody(Strict):
    """How to run again."""

    fresh: bool = Field(False, description="Begin at the top, forgetting the steps that had finished.")
    from_step: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The `key` of a step (GET /tasks/{task_id}/steps): it and what came after it are done again.",
    )
    credentials: dict[str, Any] | None = Field(
        None,
        description="Credentials the run needs, by JSON pointer into its options: they were erased at its end.",
    )


@routes.post(
    "/tasks/{task_id}/retry",
    "runs:retry",
    body=RetryBody,
    body_optional=True,
    prefixes=ROOTED,
    headers=("Idempotency-Key",),
    answers=[Answer(202, "A new task that repeats the old one.", schemas.TaskBrief, headers=("Location",))],
    errors=(429,),
)
async def retry(call: Call) -> Response:
    """Run an ended task again, as a new task.

    Finished steps are not repeated, nor their tokens paid again, unless fresh is set. from_step repeats that step and
    all that began after it; questions asked since are asked again, and what the run kept since is not there. The new
    task gets one attempt.
    """
    body = await call.optional_json(RetryBody)
    if body.fresh and body.from_step is not None:
        raise InvalidRequest("Give fresh or from_step, not both.", code="invalid_field", field="from_step")
    id_, actor, asked_by = task_id(call), call.actor, tracing.stored()

    secrets = call.state.sealer.seal(body.credentials) if body.credentials else None
    return await idempotency.create(
        call,
        lambda tx: _retry(tx, call.org_id, id_, actor, body, secrets, asked_by),
        _retried,
    )


def _retried(task: Task) -> Response:
    answer = brief(task) | {
        "retry_of": task.retry_of,
        "message": hint(task.status, task.id),
        "links": links(task.id),
    }
    return reply(answer, 202, {"location": under(f"{BASE}/tasks/{task.id}")})


def _retry(
    tx: Tx,
    org_id: str,
    id_: str,
    actor: str,
    body: RetryBody,
    secrets: bytes | None,
    traceparent: str | None,
) -> Task:
    scope = tx.scope(org_id)
    task = tasks.get(scope, id_)
    if task is not None and secrets is None:
        bulk.refuse_erased(task)
    if task is not None and body.credentials:
        _check_pointers(task, body.credentials)
    again = retries.retry(tx, org_id, id_, actor, body.fresh, secrets, body.from_step, traceparent)
    made = tasks.get(scope, again.task_id)
    assert made is not None
    return made


def _check_pointers(task: Task, credentials: dict[str, Any]) -> None:
    known = bulk.sealed_at((task.input or {}).get("options") or {})
    unknown = [pointer for pointer in credentials if pointer not in known]
    if unknown:
        raise InvalidRequest(
            f"{unknown[0]!r} is no credential of this run.",
            code="unknown_credential",
            field="credentials",
            pointers=known,
        )


class BulkCancelBody(Strict):
    """Which tasks to cancel; no filter means every unfinished one."""

    filter: Annotated[dict[str, Any], WithJsonSchema(Filters.model_json_schema())] = Field(
        description="The parameters of GET /tasks, without limit and cursor."
    )
    reason: str | None = Field(None, max_length=500)


class BulkRetryBody(Strict):
    """Which tasks to run again."""

    filter: Annotated[dict[str, Any], WithJsonSchema(Filters.model_json_schema())] = Field(
        description="The parameters of GET /tasks, without limit and cursor."
    )
    fresh: bool = False


class BulkAnswer(schemas.Shape):
    """What was done."""

    count: int
    task_ids: list[str]
    refused: list[dict[str, Any]]
    has_more: bool = Field(description="Whether more match: send the same again.")


class BulkRetryAnswer(BulkAnswer):
    """What was done."""

    left_out: int = Field(
        description="How many match that another task repeats already, counted up to 500: these are not run once more."
    )


@routes.post(
    "/tasks/cancel",
    "runs:cancel",
    body=BulkCancelBody,
    prefixes=ROOTED,
    answers=[Answer(200, "The tasks that were cancelled.", BulkAnswer)],
)
async def cancel_many(call: Call) -> Response:
    """Cancel every unfinished task that matches, 500 at a time."""
    body = await call.json(BulkCancelBody)
    wanted = await filter_of(call, filters(body.filter))
    reason = body.reason or "cancelled by a user"
    changed = await call.write(bulk.cancel_matching, wanted, reason, call.actor)
    return reply(_changed(changed))


@routes.post(
    "/tasks/retry",
    "runs:retry",
    body=BulkRetryBody,
    prefixes=ROOTED,
    answers=[Answer(202, "The new tasks.", BulkRetryAnswer)],
)
async def retry_many(call: Call) -> Response:
    """Run every failed or stopped task that matches again, 500 at a time.

    A task that was retried before is left out, and counted in left_out: so the same request may be sent until
    has_more is false. `retried: true` in the filter runs such tasks once more, and those alone.
    """
    body = await call.json(BulkRetryBody)
    wanted = await filter_of(call, filters(body.filter))
    actor = call.actor
    changed = await call.write(bulk.retry_matching, wanted, actor, body.fresh)
    return reply(_changed(changed) | {"left_out": changed.left_out}, 202)


def filters(given: dict[str, Any]) -> Filters:
    """The filter of a body, checked like the parameters of a list."""
    return request_body.model(Filters, given, "filter")


def _changed(changed: Changed) -> dict[str, Any]:
    return {
        "count": len(changed.task_ids),
        "task_ids": changed.task_ids,
        "refused": changed.refused,
        "has_more": changed.has_more,
    }
