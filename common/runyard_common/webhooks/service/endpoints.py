"""Webhook endpoints: made, changed, tested, their secrets rotated; what every front calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runyard_common import surfaces
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.outbound import OutboundPolicy
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import token, uuid7
from runyard_common.values.json_text import JsonObject
from runyard_common.webhooks.queries import deliveries, delivery_queue, endpoints
from runyard_common.webhooks.queries.deliveries import NewDelivery
from runyard_common.webhooks.queries.endpoints import EndpointRow
from runyard_common.webhooks.rules.payloads import dump
from runyard_common.webhooks.rules.receivers import ENDPOINT_PREFIX, host_of
from runyard_common.webhooks.rules.signing import ROTATION_OVERLAP, new_secret
from runyard_common.webhooks.rules.webhook_events import TEST, check_events
from runyard_common.webhooks.service import deliveries as delivering

#: Endpoints of one organisation.
MOST: Final = bounds.WEBHOOKS.most
PAYLOAD_MODES: Final = ("full", "summary")
MOST_PARALLEL: Final = 100
MOST_PER_SECOND: Final = 10_000.0
_URL_LENGTH: Final = 2048
#: Columns of an endpoint with the values to set.
Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """An endpoint to make. `application_id` None: for all runs of the organisation."""

    url: str
    events: tuple[str, ...] = ("*",)
    style: str = "native"
    agent_id: str | None = None
    application_id: str | None = None
    payload_mode: str = "full"
    active: bool = True
    max_parallel: int = 10
    max_per_second: float = 100.0
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """An endpoint just made: the only time its secret is shown."""

    endpoint: EndpointRow
    secret: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A test event: its id, its body, and its delivery if it was sent."""

    event_id: str
    payload: JsonObject
    delivery_id: str | None = None


#: What `update` may set.
CHANGEABLE: Final = frozenset({
    "url", "events", "agent_id", "application_id", "payload_mode", "active", "max_parallel", "max_per_second", "meta",
})  # fmt: skip


def create(
    tx: Tx,
    org_id: str,
    wanted: EndpointRequest,
    sealer: Sealer,
    policy: OutboundPolicy,
    actor: str,
    reserved: str | None = None,
) -> Made:
    """Make an endpoint, with a secret of its own; one with the `reserved` UUID, if it was made before, is shown again.

    Errors: `InvalidRequest` webhook_limit_reached, invalid_events, invalid_field; `UrlRefused` url_refused.
    """
    checked = _checked(rows.values(wanted), policy)
    id_ = ENDPOINT_PREFIX + (reserved or uuid7())
    if reserved and (made := endpoints.get(tx.scope(org_id), id_)) is not None:
        return Made(made, sealer.open(made.secret))
    if endpoints.count(tx, org_id) >= MOST:
        raise InvalidRequest(
            f"An organisation has at most {MOST} webhooks; delete one first.", code="webhook_limit_reached"
        )
    secret = new_secret()
    sealed = sealer.seal(secret)
    new = EndpointRow(id=id_, org_id=org_id, secret=sealed, created_at=tx.now, updated_at=tx.now, **checked)
    endpoints.insert_endpoint(tx, new)
    identity.audit(tx, org_id, actor, "webhook.create", id_, {"host": host_of(wanted.url)})
    return Made(new, secret)


def own(scope: OrgScope, endpoint_id: str, lock: bool = False) -> EndpointRow:
    """An endpoint of the organisation; `NotFound` webhook_not_found, also for another organisation's."""
    found = endpoints.get(scope, endpoint_id, lock)
    if found is None:
        raise NotFound("There is no such webhook.", code="webhook_not_found")
    return found


def update(
    tx: Tx, org_id: str, endpoint_id: str, changes: Mapping[str, Any], policy: OutboundPolicy, actor: str
) -> EndpointRow:
    """Set some of `CHANGEABLE`; what is pending goes to a new address at once. The endpoint after it.

    Errors: `NotFound` webhook_not_found, and those of `create`.
    """
    before = own(tx.scope(org_id), endpoint_id, lock=True)
    values = _checked({k: v for k, v in changes.items() if k in CHANGEABLE}, policy, before.style)
    active = values.pop("active", before.active)
    if values:
        endpoints.change(tx, endpoint_id, **values)
        identity.audit(tx, org_id, actor, "webhook.update", endpoint_id, {"fields": sorted(values)})
    if values.get("url", before.url) != before.url:
        endpoints.change(tx, endpoint_id, failing_since=None)
        delivery_queue.redirect(tx, endpoint_id, values["url"], host_of(values["url"]))
        tx.deliveries += 1
    if active != before.active:
        return set_active(tx, org_id, endpoint_id, active, actor)
    return own(tx.scope(org_id), endpoint_id)


def set_active(tx: Tx, org_id: str, endpoint_id: str, active: bool, actor: str) -> EndpointRow:
    """Enable an endpoint, or disable it: then what is pending ends dead, and can be replayed after enabling.

    Error: `NotFound` webhook_not_found.
    """
    before = own(tx.scope(org_id), endpoint_id, lock=True)
    if active and not before.active:
        endpoints.change(tx, endpoint_id, active=True, disabled_reason=None, failing_since=None)
        identity.audit(tx, org_id, actor, "webhook.enable", endpoint_id)
    elif before.active and not active:
        delivering.disable(tx, org_id, endpoint_id, "by_hand", actor)
    return own(tx.scope(org_id), endpoint_id)


def delete(tx: Tx, org_id: str, endpoint_id: str, actor: str) -> None:
    """Delete an endpoint; what is pending ends dead. Error: `NotFound` webhook_not_found."""
    own(tx.scope(org_id), endpoint_id, lock=True)
    endpoints.remove(tx, endpoint_id)
    delivery_queue.mark_receiver_dead(tx, endpoint_id, "endpoint_deleted")
    identity.audit(tx, org_id, actor, "webhook.delete", endpoint_id)


def rotate(tx: Tx, org_id: str, endpoint_id: str, sealer: Sealer, actor: str) -> str:
    """A new secret, shown this once; the old one goes on signing too for 24 hours.

    Error: `NotFound` webhook_not_found.
    """
    return _rotate(tx, own(tx.scope(org_id), endpoint_id, lock=True), sealer, actor)


def rotate_callbacks(tx: Tx, org_id: str, sealer: Sealer, actor: str) -> str:
    """A new secret for the callbacks of an organisation's runs, as `rotate`."""
    id_ = endpoints.callback_row(org_id)
    endpoints.ensure_callbacks(tx, org_id, sealer.seal(new_secret()))
    return _rotate(tx, endpoints.load(tx.conn, [id_])[id_], sealer, actor)


def ping(scope: OrgScope, endpoint_id: str, now: float) -> Ping:
    """A test event for an endpoint, built and not sent. Error: `NotFound` webhook_not_found."""
    endpoint = own(scope, endpoint_id)
    event_id = token("evt_")
    style = surfaces.webhooks(endpoint.style) or surfaces.NATIVE_WEBHOOKS
    return Ping(event_id, style.ping(event_id, TEST, endpoint_id, now))


def send_ping(tx: Tx, org_id: str, endpoint_id: str, actor: str) -> Ping:
    """Send an endpoint a test event.

    Errors: `NotFound` webhook_not_found, `InvalidRequest` endpoint_disabled.
    """
    endpoint = own(tx.scope(org_id), endpoint_id, lock=True)
    if not endpoint.active:
        raise InvalidRequest("The endpoint is disabled; enable it first.", code="endpoint_disabled")
    made = ping(tx.scope(org_id), endpoint_id, tx.now)
    body = dump(made.payload).decode()
    test = NewDelivery(
        org_id, endpoint_id, endpoint_id, None, made.event_id, TEST, made.event_id, 0, endpoint.url, body
    )
    (delivery_id,) = deliveries.add(tx, [test])
    identity.audit(tx, org_id, actor, "webhook.test", endpoint_id)
    return Ping(made.event_id, made.payload, delivery_id)


def _rotate(tx: Tx, row: EndpointRow, sealer: Sealer, actor: str) -> str:
    secret = new_secret()
    endpoints.change(
        tx,
        row.id,
        secret=sealer.seal(secret),
        old_secret=row.secret,
        old_secret_until=tx.now + ROTATION_OVERLAP,
    )
    identity.audit(tx, row.org_id, actor, "webhook.rotate", row.id)
    return secret


def _checked(values: Changes, policy: OutboundPolicy, style: str | None = None) -> Changes:
    """These values as columns; the first that will not do is refused."""
    found = dict(values)
    known = surfaces.webhook_styles()
    webhooks = known.get(str(found.get("style", style)))
    if webhooks is None:
        raise _bad("style", f"one of {', '.join(known)}")
    if "url" in found:
        _check_address(found["url"], policy)
    if "events" in found:
        found["events"] = check_events(found["events"], webhooks.events)
    if found.get("payload_mode", "full") not in PAYLOAD_MODES:
        raise _bad("payload_mode", f"one of {', '.join(PAYLOAD_MODES)}")
    if not 1 <= found.get("max_parallel", 1) <= MOST_PARALLEL:
        raise _bad("max_parallel", f"from 1 to {MOST_PARALLEL}")
    if not 0.01 <= found.get("max_per_second", 1.0) <= MOST_PER_SECOND:
        raise _bad("max_per_second", f"from 0.01 to {MOST_PER_SECOND:,.0f}")
    if "meta" in found:
        found["meta"] = dict(found["meta"] or {}) or None
    return found


def _bad(name: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is {expected}.", code="invalid_field", field=name)


def _check_address(url: str, policy: OutboundPolicy) -> None:
    """HTTPS, except where the operator opened private addresses: there, plain HTTP too."""
    from runyard_common.outbound.urls import check_url, target_of

    check_url(url, policy, max_length=_URL_LENGTH)
    target = target_of(url)
    listed = policy.lists(target.host, target.port) or policy.lists_address(target.host)
    open_ = policy.allow_private or listed
    check_url(url, policy, schemes=("https", "http") if open_ else ("https",), max_length=_URL_LENGTH)
