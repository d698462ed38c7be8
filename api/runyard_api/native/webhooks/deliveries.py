"""Deliveries: what was sent to whom, what came of it, what is dead, and sending it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal

import orjson
from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import Principal, input_for, url_for
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import (
    ROOTED,
    NativeRoutes,
    Paging,
    Parameters,
    instant_of,
    moment,
    page,
    when,
)
from runyard_api.native.runs.tasks import task_id
from runyard_api.native.webhooks.webhooks import own
from runyard_api.task_snapshot import snapshot
from runyard_common.database.rows import OrgScope
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import NotFound
from runyard_common.values.json_text import JsonObject
from runyard_common.webhooks.queries import delivery_log
from runyard_common.webhooks.queries.delivery_log import DeliveryRow, Filter
from runyard_common.webhooks.rules.payloads import without_links
from runyard_common.webhooks.service import redeliveries
from runyard_common.webhooks.service.redeliveries import Again

routes = NativeRoutes("webhooks")

State = Literal["pending", "success", "dead"]
_MOST_IDS: Final = 500
_GRAIN: Final = 1e-6  # times on the wire are rounded to it, and both bounds are inclusive


class Which(Parameters):
    """Which deliveries."""

    state: State | None = Field(None, description="dead: the dead-letter view.")
    event: str | None = Field(None, max_length=64, description="An event's type, as run.failed.")
    created_after: str | None = moment("RFC 3339, inclusive.")
    created_before: str | None = moment("RFC 3339, inclusive.")


class DeliveryParameters(Which, Paging):
    """Which deliveries, and which page of them."""


class ReplayBody(Strict):
    """What to send again: everything settled, unless a filter selects less."""

    state: Literal["success", "dead"] | None = Field(None, description="dead: only what did not arrive.")
    event: str | None = Field(None, max_length=64)
    created_after: str | None = moment("RFC 3339, inclusive.")
    created_before: str | None = moment("RFC 3339, inclusive.")
    settled_before: str | None = moment("From the answer before, to go on where it ended.")


class RedeliverBody(Strict):
    """The deliveries to send again."""

    ids: list[str] = Field(min_length=1, max_length=_MOST_IDS)


class Delivery(schemas.Shape):
    """One event on its way to one receiver."""

    id: str
    event_id: str = Field(description="The webhook-id: the same at every attempt.")
    event_type: str
    webhook_id: str | None = Field(description="null: the run's own callback.")
    task_id: str | None
    url: str = Field(description="Its origin alone for those who may not write webhooks.")
    state: State
    attempt: int
    status_code: int | None
    latency_ms: int | None
    error: str | None
    answer: str | None = Field(description="The first bytes of what the receiver answered.")
    next_attempt_at: str | None
    created_at: str
    updated_at: str


class DeliveryAttempt(schemas.Shape):
    """What came of one attempt."""

    attempt: int = Field(description="Its number; it begins again with 1 where the delivery is sent again.")
    at: str = Field(description="When it was over.")
    status_code: int | None
    latency_ms: int | None
    error: str | None


class DeliveryWhole(Delivery):
    """A delivery with its payload and its attempts."""

    payload: Any
    attempts: list[DeliveryAttempt] = Field(
        description="The newest last, 20 at most. One whose process died came to nothing, and is not there."
    )


class DeliveryPage(schemas.Page):
    """A page of deliveries, newest first."""

    data: list[Delivery]  # type: ignore[assignment]


class AgainAnswer(schemas.Shape):
    """What is on its way again."""

    count: int
    delivery_ids: list[str]
    has_more: bool
    settled_before: str | None = Field(description="Send the same again with this to go on.")


class Redelivered(schemas.Shape):
    """What is on its way again, and what is not."""

    count: int
    delivery_ids: list[str]
    refused: list[dict[str, Any]]


def delivery_json(row: DeliveryRow) -> JsonObject:
    names = (
        "id", "event_id", "event_type", "task_id", "url", "state", "attempt", "status_code", "latency_ms", "error",
        "answer",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names} | {
        "webhook_id": row.endpoint_id,
        "next_attempt_at": when(row.next_at) if row.state == "pending" else None,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
    }


def filter_of(given: Which | ReplayBody, **more: Any) -> Filter:
    """The store's filter for what was asked; `InvalidRequest` invalid_field."""
    after, before = given.created_after, given.created_before
    return Filter(
        states=(given.state,) if given.state else None,
        event_type=given.event,
        created_after=instant_of(after, "created_after") - _GRAIN if after is not None else None,
        created_before=instant_of(before, "created_before") + _GRAIN if before is not None else None,
        **more,
    )


@routes.get(
    "/webhooks/{webhook_id}/deliveries",
    "webhooks:read",
    query=DeliveryParameters,
    answers=[Answer(200, "A page of deliveries.", DeliveryPage)],
)
async def webhook_deliveries(call: Call) -> Response:
    """List the deliveries of a webhook, newest first."""
    given = call.query(DeliveryParameters)
    endpoint = await own(call)
    return await _page(call, given, filter_of(given, endpoint_id=endpoint.id))


@routes.get(
    "/tasks/{task_id}/deliveries",
    "runs:read",
    query=DeliveryParameters,
    prefixes=ROOTED,
    answers=[Answer(200, "A page of deliveries.", DeliveryPage)],
)
async def task_deliveries(call: Call) -> Response:
    """List what was sent about a task, to its callback and to webhooks, newest first."""
    given = call.query(DeliveryParameters)
    found = await snapshot(call.state, call.org_id, task_id(call))
    return await _page(call, given, filter_of(given, task_id=found.task.id))


@routes.get(
    "/deliveries",
    "webhooks:read",
    query=DeliveryParameters,
    answers=[Answer(200, "A page of deliveries.", DeliveryPage)],
)
async def list_deliveries(call: Call) -> Response:
    """List the deliveries of the organisation, newest first; ?state=dead is the dead-letter view."""
    given = call.query(DeliveryParameters)
    return await _page(call, given, filter_of(given))


@routes.post(
    "/deliveries/redeliver",
    "webhooks:write",
    body=RedeliverBody,
    answers=[Answer(202, "Those that could be are on their way again.", Redelivered)],
)
async def redeliver_many(call: Call) -> Response:
    """Send deliveries again, under the ids they had."""
    body = await call.json(RedeliverBody)
    sent, refused = await call.write(redeliveries.redeliver_many, body.ids, call.actor)
    why = [{"id": id_, "code": error.code, "message": error.message} for id_, error in refused]
    return reply({"count": len(sent), "delivery_ids": sent, "refused": why}, 202)


@routes.get(
    "/deliveries/{delivery_id}",
    "webhooks:read",
    answers=[Answer(200, "The delivery, with its payload and attempts.", DeliveryWhole)],
)
async def get_delivery(call: Call) -> Response:
    """Read a delivery, with what came of each attempt. Links to answer a question are left out of its payload."""
    row, body, tried = await call.read(_whole, call.params["delivery_id"])
    payload = orjson.loads(without_links(body, row.event_id))
    attempts = [one | {"at": when(one["at"])} for one in tried]
    more = {"payload": _payload_for(call.principal, payload), "attempts": attempts}
    return reply(delivery_json(_shown(call, row)) | more)


def _whole(scope: OrgScope, delivery_id: str) -> tuple[DeliveryRow, str, list[dict[str, Any]]]:
    row, body = delivery_log.get(scope, delivery_id), delivery_log.body(scope, delivery_id)
    if row is None or body is None:
        raise NotFound("There is no such delivery.", code="delivery_not_found", field="delivery_id")
    return row, body, delivery_log.attempts(scope, delivery_id)


def _shown(call: Call, row: DeliveryRow) -> DeliveryRow:
    return replace(row, url=url_for(call.principal, row.url))


def _payload_for(who: Principal, payload: Any) -> Any:
    """A payload, with the input of its run as `who` may see it."""
    if not isinstance(payload, dict):
        return payload
    return {
        name: value | {"input": input_for(who, value["input"])}
        if isinstance(value, dict) and "input" in value
        else value
        for name, value in payload.items()
    }


@routes.post(
    "/deliveries/{delivery_id}/redeliver",
    "webhooks:write",
    answers=[Answer(202, "It is on its way again.", Delivery)],
    errors=(409,),
)
async def redeliver(call: Call) -> Response:
    """Send a delivery again, under the id it had."""
    row = await call.write(redeliveries.redeliver, call.params["delivery_id"], call.actor)
    return reply(delivery_json(row), 202)


@routes.post(
    "/webhooks/{webhook_id}/replay",
    "webhooks:write",
    body=ReplayBody,
    answers=[Answer(202, "They are on their way again.", AgainAnswer)],
    errors=(409,),
)
async def replay(call: Call) -> Response:
    """Send a webhook's deliveries of a time range again, oldest first, 1,000 at a time."""
    body = await call.json(ReplayBody)
    until = instant_of(body.settled_before, "settled_before") if body.settled_before else None
    done: Again = await call.write(
        redeliveries.replay, call.params["webhook_id"], filter_of(body, updated_before=until), call.actor
    )
    return reply(
        {
            "count": len(done.ids),
            "delivery_ids": done.ids,
            "has_more": done.has_more,
            "settled_before": when(done.settled_before),
        },
        202,
    )


async def _page(call: Call, given: DeliveryParameters, wanted: Filter) -> Response:
    rows = await call.read(delivery_log.page, wanted, given.limit + 1, given.before)
    shown = [delivery_json(_shown(call, row)) for row in rows]
    return reply(page(shown, given.limit, [row.id for row in rows]))
