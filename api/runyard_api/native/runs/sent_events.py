"""Events from outside, for runs that wait for them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from pydantic import ConfigDict, Field, JsonValue, model_validator
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, when
from runyard_common.runs.rules.run_request import Strict
from runyard_common.runs.service import sent_events
from runyard_common.runs.service.sent_events import NewEvent, Sent

routes = NativeRoutes("events")


_BOTH: list[JsonValue] = [
    {"required": [one, other], "properties": {one: {"type": "string"}, other: {"type": "string"}}}
    for one, other in combinations(("task_id", "session_id", "key"), 2)
]
_EXAMPLE: dict[str, JsonValue] = {"name": "payment_received", "key": "order-17", "data": {"amount": 12.5}}


class EventBody(Strict):
    """An event to send. Without task_id, session_id and key it is for the runs that wait for the name alone."""

    model_config = ConfigDict(json_schema_extra={"not": {"anyOf": _BOTH}, "examples": [_EXAMPLE]})

    name: str = Field(min_length=1, max_length=100, description="What `ctx.wait_for_event` names.")
    data: Any = Field(None, description="What the runs get.")
    task_id: str | None = Field(None, max_length=64, description="For this run alone, with any key.")
    session_id: str | None = Field(
        None, max_length=255, description="For the runs of this session: its id, or your own name for it."
    )
    key: str | None = Field(
        None, min_length=1, max_length=250, description="For all runs that wait for the name with this key."
    )

    @model_validator(mode="after")
    def _one_address(self) -> EventBody:
        if sum(one is not None for one in (self.task_id, self.session_id, self.key)) > 1:
            raise ValueError("give one of task_id, session_id and key")
        return self


class EventSent(schemas.Shape):
    """An event that is stored."""

    id: str
    name: str
    task_ids: list[str] = Field(description="The runs that waited for it; at most 100 of them.")
    delivered: int = Field(description="How many runs waited for it.")
    created_at: str
    expires_at: str = Field(description="Until when runs that begin to wait get it too.")


@routes.post(
    "/events",
    "events:send",
    body=EventBody,
    headers=("Idempotency-Key",),
    answers=[Answer(202, "The event is stored; each run that waits for it goes on.", EventSent)],
    errors=(404, 409),
)
async def send_event(call: Call) -> Response:
    """Send an event to runs that wait for it with ctx.wait_for_event.

    Each run gets it once. A run that begins to wait within a day gets it too, if it was accepted before the event came.
    """
    body = await call.json(EventBody)
    new = NewEvent(body.name, body.data, body.task_id, body.session_id, body.key)
    actor = call.actor
    return await idempotency.create(
        call, lambda tx: sent_events.send(tx, call.org_id, new, actor), lambda sent: reply(_json(sent), 202)
    )


def _json(sent: Sent) -> dict[str, Any]:
    return {
        "id": sent.event.id,
        "name": sent.event.name,
        "task_ids": sent.task_ids[:100],
        "delivered": len(sent.task_ids),
        "created_at": when(sent.event.created_at),
        "expires_at": when(sent.event.expires_at),
    }
