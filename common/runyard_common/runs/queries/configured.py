"""What an organisation has configured that every run meets: its limits, and who listens to what becomes of it.

From memory, by the number that each change raises: see `runyard_common.identity.queries.config_versions`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from runyard_common.database.config_memory import Known
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import config_versions, identity
from runyard_common.identity.rules.erasing import is_erasing
from runyard_common.runs.queries import limits
from runyard_common.runs.rules.admission import Rule
from runyard_common.webhooks.queries import deliveries
from runyard_common.webhooks.queries.deliveries import Listener


@dataclass(frozen=True, slots=True)
class Configured:
    """An organisation's limits, the operator's included, its active endpoints, and whether it takes no new runs."""

    rules: list[Rule]
    listeners: list[Listener]
    erasing: bool = False


def load(scope: OrgScope) -> Configured:
    organisation = identity.organisation(scope.conn, scope.org_id)
    closed = organisation is not None and is_erasing(organisation.settings)
    return Configured(limits.rules(scope.conn, [scope.org_id]), deliveries.listeners(scope), closed)


def known(db: Database, org_id: str) -> Known[Configured]:
    """What was configured last, as far as this process knows: a transaction that relies on it checks the number."""
    return config_versions.known(db, org_id, load)


def remembered(tx: Tx, org_ids: Collection[str]) -> dict[str, Known[Configured]] | None:
    """What this process remembers of all these organisations; None where it has to look."""
    found: dict[str, Known[Configured]] = {}
    for org_id in org_ids:
        its = tx.db.memory.get(org_id, load)
        if its is None or tx.db.memory.is_doubted(org_id):
            return None
        found[org_id] = its
    return found


def require(tx: Tx, known: Mapping[str, Known[Configured]], paying: Collection[str]) -> None:
    """Commit only if this is what these organisations have configured, and `paying` have something left."""
    numbers = {org_id: its.number for org_id, its in known.items()}
    condition, values = config_versions.unchanged(numbers, paying)
    tx.require(condition, partial(tx.db.memory.doubt, numbers), values)


def current(
    tx: Tx, org_ids: Collection[str], paying: Collection[str]
) -> tuple[dict[str, Known[Configured]], set[str]]:
    """What these organisations have configured now, and those of `paying` that pay in advance and have nothing left.

    One statement, where the memory of this process counts.
    """
    found = {org_id: known(tx.db, org_id) for org_id in org_ids}
    numbers, broke = config_versions.checked(tx.conn, org_ids, paying)
    for org_id, number in numbers.items():
        if found[org_id].number != number:
            found[org_id] = _again(tx, org_id, number)
    tx.db.memory.trust(org for org in org_ids if org not in broke)
    return found, broke


def _again(tx: Tx, org_id: str, number: int) -> Known[Configured]:
    tx.db.memory.forget(org_id)
    found = known(tx.db, org_id)
    if found.number == number:
        return found
    # This very transaction has changed something: what is not committed is not remembered.
    return Known(number, load(tx.scope(org_id)))
