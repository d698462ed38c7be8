"""Webhooks: endpoints that are sent events of runs, their deliveries and secrets (contract, section 12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import url_for
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.appstrate import idempotency
from runyard_api.surfaces.appstrate.front import AppstrateRoutes, bounded, when
from runyard_api.surfaces.appstrate.packages import drafts
from runyard_api.surfaces.appstrate.schemas import ListOf, Open
from runyard_common.agents.queries import agents
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.service import applications
from runyard_common.values.errors import InvalidRequest
from runyard_common.values.json_text import JsonObject
from runyard_common.values.models import Model
from runyard_common.webhooks.queries import delivery_log, endpoints
from runyard_common.webhooks.queries.delivery_log import DeliveryRow, Filter
from runyard_common.webhooks.queries.endpoints import EndpointRow
from runyard_common.webhooks.service import endpoints as service
from runyard_common.webhooks.service.endpoints import EndpointRequest

routes = AppstrateRoutes("appstrate webhooks")

STYLE: Final = "appstrate"
_WRITES, _SECRETS, _READS = 10, 5, 300
_STATES: Final = {"dead": "failed"}
_NAMES: Final = {"payloadMode": "payload_mode", "applicationId": "application_id"}


class AppstrateWebhookChange(Tolerant):
    """What to change of a webhook; null in packageId drops the filter."""

    url: str = Field("", min_length=1, max_length=2048)
    events: list[str] = Field([], min_length=1, max_length=20)
    packageId: str | None = Field(None, max_length=200)  # noqa: N815
    payloadMode: Literal["full", "summary"] = "full"  # noqa: N815
    active: bool = True


class AppstrateWebhookBody(Tolerant):
    """A webhook to make."""

    url: str = Field(min_length=1, max_length=2048)
    events: list[str] = Field(min_length=1, max_length=20)
    scope: Literal["organization", "application"] = "application"
    applicationId: str | None = Field(None, max_length=64)  # noqa: N815
    packageId: str | None = Field(None, max_length=200)  # noqa: N815
    payloadMode: Literal["full", "summary"] = "full"  # noqa: N815
    active: bool = True


class AppstrateWebhookQuery(Model):
    """Which webhooks."""

    applicationId: str | None = None  # noqa: N815
    scope: Literal["organization", "application"] | None = None


class DeliveryQuery(Model):
    """How many."""

    limit: str | None = Field(None, description="1 to 100; default 20.")


class AppstrateWebhook(Open):
    """A webhook."""

    id: str
    object: Literal["webhook"]
    url: str
    events: list[str]
    scope: Literal["application", "organization"]
    applicationId: str | None  # noqa: N815
    packageId: str | None  # noqa: N815
    payloadMode: Literal["full", "summary"]  # noqa: N815
    active: bool
    createdAt: str  # noqa: N815
    updatedAt: str  # noqa: N815


class AppstrateWebhookList(ListOf):
    """Webhooks, newest first."""

    data: list[AppstrateWebhook]


class AppstrateDelivery(Open):
    """A delivery of an event to a webhook."""

    id: str
    eventId: str  # noqa: N815
    eventType: str  # noqa: N815
    status: Literal["pending", "success", "failed"]
    statusCode: int | None  # noqa: N815
    latency: int | None = Field(description="Milliseconds.")
    attempt: int
    error: str | None
    createdAt: str  # noqa: N815


class AppstrateDeliveryList(ListOf):
    """Deliveries, newest first."""

    data: list[AppstrateDelivery]


class AppstrateWebhookMade(AppstrateWebhook):
    """A webhook with its secret, shown only here."""

    secret: str


class TestEvent(Open):
    """A test event, built and not sent."""

    eventId: str  # noqa: N815
    payload: dict[str, Any]


class NewSecret(Open):
    """A new secret; the old one goes on signing for 24 hours."""

    secret: str


def webhook_json(scope: OrgScope, row: EndpointRow) -> JsonObject:
    agent = agents.get(scope, row.agent_id) if row.agent_id else None
    return {
        "id": row.id,
        "object": "webhook",
        "url": row.url,
        "events": row.events,
        "scope": "application" if row.application_id else "organization",
        "applicationId": row.application_id,
        "packageId": agent.name if agent else None,
        "payloadMode": row.payload_mode,
        "active": row.active,
        "createdAt": when(row.created_at),
        "updatedAt": when(row.updated_at),
    }


@routes.post(
    "/webhooks",
    "webhooks:write",
    limit=_WRITES,
    once=True,
    body=AppstrateWebhookBody,
    answers=[Answer(201, "The webhook and its secret.", AppstrateWebhookMade)],
    errors=(403, 404),
)
async def create_endpoint(call: Call) -> Response:
    """Make a webhook."""
    body = await call.json(AppstrateWebhookBody)
    return reply(await call.state.write(_create, call, body), 201)


def _create(tx: Tx, call: Call, body: AppstrateWebhookBody) -> dict[str, Any]:
    org_id = call.org_id
    application = None
    if body.scope == "application":
        if body.applicationId is None:
            raise InvalidRequest("applicationId is required for this scope.", field="applicationId")
        application = applications.own(tx, org_id, body.applicationId).id
    agent_id = _agent(tx.scope(org_id), body.packageId)
    wanted = EndpointRequest(
        body.url, tuple(body.events), STYLE, agent_id, application, body.payloadMode, body.active
    )
    made = service.create(
        tx,
        org_id,
        wanted,
        call.state.sealer,
        call.state.rules.policy,
        call.actor,
        idempotency.reserved(call),
    )
    return webhook_json(tx.scope(org_id), made.endpoint) | {"secret": made.secret}


def _agent(scope: OrgScope, package: str | None) -> str | None:
    return drafts.live(scope, package).agent.id if package else None


@routes.get(
    "/webhooks",
    "webhooks:read",
    limit=_READS,
    query=AppstrateWebhookQuery,
    answers=[Answer(200, "The webhooks.", AppstrateWebhookList)],
)
async def list_endpoints(call: Call) -> Response:
    """List webhooks, newest first."""
    given = call.query(AppstrateWebhookQuery)

    def read(scope: OrgScope) -> list[JsonObject]:
        found = endpoints.page(scope, given.applicationId, given.scope)
        return [_shown(scope, call, row) for row in found if row.style == STYLE]

    return reply({"object": "list", "data": await call.read(read)})


def _shown(scope: OrgScope, call: Call, row: EndpointRow) -> JsonObject:
    """A webhook as the caller may see it: without the query of its URL, unless it may change that."""
    return webhook_json(scope, replace(row, url=url_for(call.principal, row.url)))


@routes.get(
    "/webhooks/{webhook_id}",
    "webhooks:read",
    limit=_READS,
    answers=[Answer(200, "The webhook.", AppstrateWebhook)],
)
async def get_endpoint(call: Call) -> Response:
    """Read a webhook."""
    id_ = call.params["webhook_id"]
    return reply(await call.read(lambda scope: _shown(scope, call, service.own(scope, id_))))


@routes.put(
    "/webhooks/{webhook_id}",
    "webhooks:write",
    limit=_WRITES,
    body=AppstrateWebhookChange,
    answers=[Answer(200, "As it is now.", AppstrateWebhook)],
)
async def change_endpoint(call: Call) -> Response:
    """Change a webhook; fields left out stay."""
    given = (await call.json(AppstrateWebhookChange)).model_dump(exclude_unset=True)
    return reply(await call.state.write(_change, call, given))


def _change(tx: Tx, call: Call, given: dict[str, Any]) -> dict[str, Any]:
    org_id, id_ = call.org_id, call.params["webhook_id"]
    changes = {_NAMES.get(name, name): value for name, value in given.items() if name != "packageId"}
    if "packageId" in given:
        changes["agent_id"] = _agent(tx.scope(org_id), given["packageId"])
    changed = service.update(tx, org_id, id_, changes, call.state.rules.policy, call.actor)
    return webhook_json(tx.scope(org_id), changed)


@routes.delete(
    "/webhooks/{webhook_id}",
    "webhooks:delete",
    limit=_WRITES,
    answers=[Answer(204, "It is deleted.")],
)
async def delete_endpoint(call: Call) -> Response:
    """Delete a webhook."""
    await call.write(service.delete, call.params["webhook_id"], call.actor)
    return Response(status_code=204)


@routes.post(
    "/webhooks/{webhook_id}/test",
    "webhooks:write",
    limit=_SECRETS,
    answers=[Answer(200, "The event.", TestEvent)],
)
async def test_endpoint(call: Call) -> Response:
    """Build a test event. It is not sent."""
    id_ = call.params["webhook_id"]
    now = await call.state.reader.one(call.state.db.now)
    made = await call.read(service.ping, id_, now)
    return reply({"eventId": made.event_id, "payload": made.payload})


@routes.post(
    "/webhooks/{webhook_id}/rotate",
    "webhooks:write",
    limit=_SECRETS,
    answers=[Answer(200, "The new secret.", NewSecret)],
)
async def rotate_secret(call: Call) -> Response:
    """Make a new secret; for 24 hours deliveries are signed with both."""
    id_, actor = call.params["webhook_id"], call.actor
    secret = await call.write(service.rotate, id_, call.state.sealer, actor)
    return reply({"secret": secret})


@routes.get(
    "/webhooks/{webhook_id}/deliveries",
    "webhooks:read",
    limit=_READS,
    query=DeliveryQuery,
    answers=[Answer(200, "The latest deliveries.", AppstrateDeliveryList)],
)
async def list_endpoint_deliveries(call: Call) -> Response:
    """List a webhook's deliveries, newest first."""
    id_, limit = call.params["webhook_id"], bounded(call, "limit", 20)

    def read(scope: OrgScope) -> list[DeliveryRow]:
        service.own(scope, id_)
        return delivery_log.page(scope, Filter(endpoint_id=id_), limit)

    found = await call.read(read)
    return reply({"object": "list", "data": [delivery_json(row) for row in found]})


def delivery_json(row: DeliveryRow) -> JsonObject:
    return {
        "id": row.id,
        "eventId": row.event_id,
        "eventType": row.event_type,
        "status": _STATES.get(row.state, row.state),
        "statusCode": row.status_code,
        "latency": row.latency_ms,
        "attempt": row.attempt,
        "error": row.error,
        "createdAt": when(row.created_at),
    }
