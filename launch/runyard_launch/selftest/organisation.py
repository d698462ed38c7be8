"""The selftest's organisation: no run of it concerns anyone else. It is used again by the next selftest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store, Tx
from runyard_common.identity.queries import identity as organisations
from runyard_common.identity.rules.actors import OPERATOR
from runyard_common.identity.rules.retention import NAMES
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity
from runyard_common.identity.service import organisations as service
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import TERMINAL, Status
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.schedules.queries import schedules as schedule_rows
from runyard_common.schedules.service import schedules
from runyard_common.webhooks.service import endpoints

NAME: Final = "runyard selftest"
#: How long its runs are kept, in days: ten seconds, after which any scheduler deletes them.
_KEPT_DAYS: Final = 10 / 86_400
#: How long its keys last at most, in seconds, should it be killed.
_KEY_SECONDS: Final = 3600.0
_UNFINISHED: Final = tuple(status for status in Status if status not in TERMINAL)
_AT_ONCE: Final = 1000


@dataclass(frozen=True)
class Organisation:
    """Open, with what belongs to one selftest."""

    id: str
    key: str
    webhook_secret: str


def opened(store: Store, sealer: Sealer) -> Organisation:
    """Make it, or use it again without what a selftest that was killed has left."""
    with store.begin() as tx:
        found = organisations.organisation_named(tx.conn, NAME)
        org_id = service.create(tx, NAME, OPERATOR, None).id if found is None else found.id
        if found is not None:
            _empty(tx, org_id)
            organisations.update_organisation(tx, org_id, active=True)
        wanted = KeyRequest("selftest", Role.MEMBER, expires_at=tx.now + _KEY_SECONDS)
        key = identity.create_key(tx, org_id, wanted, OPERATOR, Role.OWNER)
        secret = endpoints.rotate_callbacks(tx, org_id, sealer, OPERATOR)
    return Organisation(org_id, key.key, secret)


def close(store: Store, org_id: str) -> None:
    """End what goes on in it, and let no key open it. Schedulers delete its runs within minutes."""
    with store.begin() as tx:
        _empty(tx, org_id)
        service.retain(tx, org_id, dict.fromkeys(NAMES, _KEPT_DAYS), OPERATOR)
        organisations.update_organisation(tx, org_id, active=False)


def _empty(tx: Tx, org_id: str) -> None:
    scope = OrgScope(tx.conn, org_id)
    for schedule in schedule_rows.outline(scope):
        schedules.remove(tx, org_id, schedule.id)
    unfinished = tasks.page(scope, Filter(statuses=_UNFINISHED), _AT_ONCE)
    cancel_tasks(tx, [task.id for task in unfinished], "the selftest is over")
    for key in organisations.keys(scope, _AT_ONCE):
        identity.revoke_key(tx, org_id, key.id, OPERATOR)
