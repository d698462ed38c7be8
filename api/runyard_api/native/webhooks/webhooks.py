"""Webhook endpoints: where events of the organisation's runs are sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.access.auth import url_for
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.paths import under
from runyard_api.native import schemas
from runyard_api.native.front import BASE, NativeRoutes, when
from runyard_common import surfaces
from runyard_common.runs.rules.run_request import Metadata, Strict
from runyard_common.values.json_text import JsonObject
from runyard_common.webhooks.queries import endpoints
from runyard_common.webhooks.queries.endpoints import EndpointRow
from runyard_common.webhooks.rules.signing import ROTATION_OVERLAP
from runyard_common.webhooks.service import endpoints as service
from runyard_common.webhooks.service.endpoints import (
    MOST_PARALLEL,
    MOST_PER_SECOND,
    EndpointRequest,
    Made,
    Ping,
)

routes = NativeRoutes("webhooks")

Parallel = Annotated[int, Field(ge=1, le=MOST_PARALLEL, description="Calls under way at once.")]
PerSecond = Annotated[float, Field(ge=0.01, le=MOST_PER_SECOND, description="Calls begun in a second.")]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Events = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=50)]
AgentName = Annotated[str, Field(min_length=1, max_length=200)]
if TYPE_CHECKING:
    Style = str
else:
    Style = Literal[tuple(surfaces.webhook_styles())]


class WebhookBody(Strict):
    """A webhook to make."""

    url: Url = Field(description="Where to POST. HTTPS, public; the operator may open other addresses.")
    events: Events = Field(
        default_factory=lambda: ["*"],
        description="run.pending, run.queued, run.running, run.waiting_for_input, run.awaiting_review, "
        "run.completed, run.failed, run.stopped, or * for all.",
    )
    style: Style = Field("native", description="The shape of payloads.")
    agent: AgentName | None = Field(None, description="Only runs of this agent, by any of its names.")
    payload_mode: Literal["full", "summary"] = Field(
        "full", description="summary leaves input and output out."
    )
    active: bool = True
    max_parallel: Parallel = 10
    max_per_second: PerSecond = 100.0
    metadata: Metadata | None = None


class WebhookChange(Strict):
    """What to change of a webhook; what is left out stays."""

    url: Url | None = None
    events: Events | None = None
    agent: AgentName | None = Field(None, description="null: runs of any agent.")
    payload_mode: Literal["full", "summary"] | None = None
    active: bool | None = None
    max_parallel: Parallel | None = None
    max_per_second: PerSecond | None = None
    metadata: Metadata | None = None


class Webhook(schemas.Shape):
    """A webhook."""

    id: str
    url: str = Field(description="Its origin alone for those who may not write webhooks.")
    events: list[str]
    style: str
    agent_id: str | None = Field(description="Only runs of this agent.")
    application_id: str | None = Field(description="Only runs made with this application's keys.")
    payload_mode: str
    active: bool
    disabled_reason: str | None = Field(description="gone (410), failing_for_days, by_hand.")
    failing_since: str | None = Field(description="Nothing was delivered since.")
    max_parallel: int
    max_per_second: float
    metadata: dict[str, Any]
    old_secret_until: str | None = Field(description="Until then the secret before this one signs too.")
    created_at: str
    updated_at: str


class WebhookMade(Webhook):
    """A webhook just made."""

    secret: str = Field(description="Verifies its calls (Standard Webhooks). Shown only here.")


class WebhookList(schemas.Shape):
    """Every webhook of the organisation, newest first."""

    data: list[Webhook]


class Rotated(schemas.Shape):
    """A new secret."""

    secret: str = Field(description="Shown only here.")
    old_secret_until: str = Field(description="Until then calls are signed with both.")


class TestSent(schemas.Shape):
    """A test event on its way."""

    event_id: str
    delivery_id: str
    payload: dict[str, Any]


_SAME: Final = (
    "id", "url", "events", "style", "agent_id", "application_id", "payload_mode", "active", "disabled_reason",
    "max_parallel", "max_per_second",
)  # fmt: skip


def webhook_json(row: EndpointRow, now: float) -> JsonObject:
    """An endpoint as the native API shows it at `now`."""
    until = row.old_secret_until
    return {name: getattr(row, name) for name in _SAME} | {
        "failing_since": when(row.failing_since),
        "metadata": row.meta or {},
        "old_secret_until": when(until) if until is not None and until > now else None,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
    }


@routes.get("/webhooks", "webhooks:read", answers=[Answer(200, "The webhooks.", WebhookList)])
async def list_webhooks(call: Call) -> Response:
    """List the webhooks of the organisation."""
    rows = await call.read(endpoints.page)
    now = call.state.now()
    return reply({"data": [webhook_json(_shown(call, row), now) for row in rows]})


@routes.post(
    "/webhooks",
    "webhooks:write",
    body=WebhookBody,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The webhook; its secret is shown only here.", WebhookMade, headers=("Location",))],
    errors=(404,),
)
async def create_webhook(call: Call) -> Response:
    """Make a webhook, at most 20 in an organisation.

    A repetition with the same Idempotency-Key does not show the secret again.
    """
    body = await call.json(WebhookBody)
    given = body.model_dump(exclude={"agent", "metadata", "events"})
    wanted = EndpointRequest(
        **given, events=tuple(body.events), agent_id=await _agent(call, body.agent), meta=body.metadata or {}
    )
    state, actor = call.state, call.actor

    def kept(made: Made) -> Response:
        shown = webhook_json(made.endpoint, state.now()) | {"secret": ""}
        return reply(shown, 201, {"location": under(f"{BASE}/webhooks/{made.endpoint.id}")})

    def first(made: Made, response: Response) -> Response:
        """The secret goes to the caller, not into the answer that is kept for repetitions."""
        whole = orjson.loads(bytes(response.body)) | {"secret": made.secret}
        return reply(whole, 201, {"location": response.headers["location"]})

    return await idempotency.create(
        call,
        lambda tx: service.create(tx, call.org_id, wanted, state.sealer, state.rules.policy, actor),
        kept,
        first,
    )


@routes.post(
    "/webhooks/callbacks/rotate",
    "webhooks:write",
    answers=[Answer(200, "The new secret of the organisation's callbacks.", Rotated)],
)
async def rotate_callbacks(call: Call) -> Response:
    """Make a new secret for the callbacks that runs ask for.

    All callbacks of an organisation are signed with one secret. The one before signs beside it for 24 hours.
    """
    state = call.state
    secret = await state.write(service.rotate_callbacks, call.org_id, state.sealer, call.actor)
    return _rotated(call, secret)


@routes.get("/webhooks/{webhook_id}", "webhooks:read", answers=[Answer(200, "The webhook.", Webhook)])
async def get_webhook(call: Call) -> Response:
    """Read a webhook."""
    return reply(webhook_json(_shown(call, await own(call)), call.state.now()))


@routes.patch(
    "/webhooks/{webhook_id}",
    "webhooks:write",
    body=WebhookChange,
    answers=[Answer(200, "The webhook as it is now.", Webhook)],
)
async def update_webhook(call: Call) -> Response:
    """Change a webhook; what is pending goes to a new URL at once."""
    body = await call.json(WebhookChange)
    changes = body.model_dump(include=body.model_fields_set, exclude={"agent", "metadata"})
    changes = {name: value for name, value in changes.items() if value is not None}
    if "agent" in body.model_fields_set:
        changes["agent_id"] = await _agent(call, body.agent)
    if "metadata" in body.model_fields_set:
        changes["meta"] = body.metadata
    row = await call.write(service.update, _id(call), changes, call.state.rules.policy, call.actor)
    return reply(webhook_json(row, call.state.now()))


@routes.delete(
    "/webhooks/{webhook_id}",
    "webhooks:delete",
    answers=[Answer(204, "Nothing more is sent to it.")],
)
async def delete_webhook(call: Call) -> Response:
    """Delete a webhook; what was pending for it is dead."""
    await call.write(service.delete, _id(call), call.actor)
    return Response(status_code=204)


@routes.post(
    "/webhooks/{webhook_id}/test",
    "webhooks:write",
    answers=[Answer(202, "A test.ping is on its way; its delivery shows what came of it.", TestSent)],
)
async def send_test(call: Call) -> Response:
    """Send a webhook a test event."""
    made: Ping = await call.write(service.send_ping, _id(call), call.actor)
    return reply({"event_id": made.event_id, "delivery_id": made.delivery_id, "payload": made.payload}, 202)


@routes.post(
    "/webhooks/{webhook_id}/rotate",
    "webhooks:write",
    answers=[Answer(200, "The new secret.", Rotated)],
)
async def rotate_webhook(call: Call) -> Response:
    """Make a new secret for a webhook; the one before signs beside it for 24 hours."""
    state = call.state
    secret = await state.write(service.rotate, call.org_id, _id(call), state.sealer, call.actor)
    return _rotated(call, secret)


@routes.post(
    "/webhooks/{webhook_id}/enable",
    "webhooks:write",
    answers=[Answer(200, "The webhook, active.", Webhook)],
)
async def enable_webhook(call: Call) -> Response:
    """Send events to a webhook again; replay sends what it missed and what died meanwhile."""
    return await _set_active(call, active=True)


@routes.post(
    "/webhooks/{webhook_id}/disable",
    "webhooks:write",
    answers=[Answer(200, "The webhook, inactive.", Webhook)],
)
async def disable_webhook(call: Call) -> Response:
    """Send nothing more to a webhook; what was pending is dead, and can be replayed."""
    return await _set_active(call, active=False)


async def own(call: Call) -> EndpointRow:
    return await call.read(service.own, _id(call))


def _shown(call: Call, row: EndpointRow) -> EndpointRow:
    return replace(row, url=url_for(call.principal, row.url))


async def _set_active(call: Call, active: bool) -> Response:
    row = await call.write(service.set_active, _id(call), active, call.actor)
    return reply(webhook_json(row, call.state.now()))


async def _agent(call: Call, name: str | None) -> str | None:
    """The id of an agent; `NotFound` agent_not_found."""
    return None if name is None else (await call.state.agents.find(call.org_id, name)).ref.agent_id


def _id(call: Call) -> str:
    return call.params["webhook_id"]


def _rotated(call: Call, secret: str) -> Response:
    return reply({"secret": secret, "old_secret_until": when(call.state.now() + ROTATION_OVERLAP)})
