"""Send deliveries again: one, many, or all of a time range, under the ids and with the bodies they had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.values.errors import Conflict, NotFound, RunyardError
from runyard_common.webhooks.queries import callbacks, delivery_log
from runyard_common.webhooks.queries.delivery_log import DeliveryRow, Filter
from runyard_common.webhooks.service.endpoints import own

#: How many deliveries one command sends again; the answer has whether there are more.
MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Again:
    """The deliveries that are on their way again, and whether more match.

    The next call asks for those settled up to `settled_before` (epoch seconds), so that none is sent twice.
    """

    ids: list[str]
    has_more: bool
    settled_before: float


def redeliver(tx: Tx, org_id: str, delivery_id: str, actor: str) -> DeliveryRow:
    """Send one settled delivery again. It, as it is now.

    Errors: `NotFound` delivery_not_found; `Conflict` already_pending, endpoint_disabled, callback_gone.
    """
    found = delivery_log.get(tx.scope(org_id), delivery_id)
    if found is None:
        raise NotFound("There is no such delivery.", code="delivery_not_found")
    if found.endpoint_id is not None:
        _check_active(tx, org_id, found.endpoint_id)
    else:
        task_id = found.task_id or ""
        callback = callbacks.of_tasks(tx.conn, [task_id]).get(task_id)
        if callback is None or not callback.active:
            raise Conflict("The run's callback answered 410 or was deleted.", code="callback_gone")
    if not delivery_log.send_again(tx, org_id, Filter(ids=(delivery_id,)), 1):
        raise Conflict("This delivery is on its way already.", code="already_pending")
    identity.audit(tx, org_id, actor, "delivery.redeliver", delivery_id)
    again = delivery_log.get(tx.scope(org_id), delivery_id)
    assert again is not None
    return again


def redeliver_many(
    tx: Tx, org_id: str, ids: Sequence[str], actor: str
) -> tuple[list[str], list[tuple[str, RunyardError]]]:
    """Send these deliveries again: the ids of those that are on their way, and why the others are not."""
    sent: list[str] = []
    refused: list[tuple[str, RunyardError]] = []
    for id_ in dict.fromkeys(ids):
        try:
            redeliver(tx, org_id, id_, actor)
            sent.append(id_)
        except RunyardError as refusal:
            refused.append((id_, refusal))
    return sent, refused


def replay(tx: Tx, org_id: str, endpoint_id: str, wanted: Filter, actor: str) -> Again:
    """Send an endpoint's settled deliveries that match again, oldest first, up to `MOST`.

    Errors: `NotFound` webhook_not_found; `Conflict` endpoint_disabled.
    """
    _check_active(tx, org_id, endpoint_id)
    before = wanted.updated_before if wanted.updated_before is not None else tx.now
    these = replace(wanted, endpoint_id=endpoint_id, updated_before=before)
    ids = delivery_log.send_again(tx, org_id, these, MOST)
    identity.audit(tx, org_id, actor, "webhook.replay", endpoint_id, {"deliveries": len(ids)})
    return Again(ids, len(ids) == MOST, before)


def _check_active(tx: Tx, org_id: str, endpoint_id: str) -> None:
    if not own(tx.scope(org_id), endpoint_id).active:
        raise Conflict("The endpoint is disabled; enable it first.", code="endpoint_disabled")
