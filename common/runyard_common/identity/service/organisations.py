"""Organisations: making and renaming them, and how long they keep what has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity, members
from runyard_common.identity.queries.identity import OrganisationRow
from runyard_common.identity.rules.caps import CAPS
from runyard_common.identity.rules.erasing import is_erasing
from runyard_common.identity.rules.retention import SETTING, check_retention
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import caps, second_factors
from runyard_common.runs.queries import lanes
from runyard_common.schedules.rules.new_schedule import CAP_SETTING
from runyard_common.values.errors import Conflict, InvalidRequest, NotFound
from runyard_common.values.json_text import JsonObject


def create(tx: Tx, name: str, actor: str, owner_id: str | None, id_: str | None = None) -> OrganisationRow:
    """Make an organisation; the person `owner_id`, if any, is its first owner. The organisation."""
    org_id = identity.insert_organisation(tx, name, id_)
    if owner_id is not None:
        members.add(tx, org_id, owner_id, Role.OWNER.value)
    identity.audit(tx, org_id, actor, "organisation.create", org_id, {"name": name, "owner": owner_id})
    return own(tx, org_id)


def rename(tx: Tx, org_id: str, name: str, actor: str) -> OrganisationRow:
    """Change an organisation's name. The organisation; `NotFound` organisation_not_found."""
    before = own(tx, org_id)
    if before.name != name:
        identity.update_organisation(tx, org_id, name=name)
        data = {"from": before.name, "to": name}
        identity.audit(tx, org_id, actor, "organisation.rename", org_id, data)
    return replace(before, name=name)


def retain(tx: Tx, org_id: str, retention: Mapping[str, float | None] | None, actor: str) -> OrganisationRow:
    """Set how many days what has ended is kept (None: as the installation has it). The organisation.

    Errors: `NotFound` organisation_not_found, `InvalidRequest` invalid_retention.
    """
    before = own(tx, org_id)
    settings = {name: value for name, value in (before.settings or {}).items() if name != SETTING}
    if retention is not None:
        settings[SETTING] = check_retention(retention)
    if settings != (before.settings or {}):
        identity.update_organisation(tx, org_id, settings=settings or None)
        identity.audit(tx, org_id, actor, "organisation.retain", org_id, {"retention": settings.get(SETTING)})
    return replace(before, settings=settings)


#: The key of an organisation's settings for whether its members need a second factor.
SECOND_FACTOR: Final = "second_factor_required"


def requires_second_factor(settings: Any) -> bool:
    """Whether an organisation with these settings is open only to people with a second factor."""
    return isinstance(settings, Mapping) and settings.get(SECOND_FACTOR) is True


def require_second_factor(
    tx: Tx, org_id: str, required: bool, actor: str, person_id: str | None
) -> OrganisationRow:
    """Open the organisation only to people with a second factor, or to all of its people again. The organisation.

    `person_id` is who asks, if it is a person: they need one themselves first. Keys are not concerned.
    Errors: `NotFound` organisation_not_found, `Conflict` no_second_factor.
    """
    before = own(tx, org_id)
    if required and person_id is not None and not second_factors.is_enrolled(tx, person_id):
        raise Conflict(
            "You would shut yourself out: enrol a second factor of your own first.",
            code="no_second_factor",
            field="second_factor_required",
        )
    settings = {name: value for name, value in (before.settings or {}).items() if name != SECOND_FACTOR}
    if required:
        settings[SECOND_FACTOR] = True
    if settings != (before.settings or {}):
        identity.update_organisation(tx, org_id, settings=settings or None)
        identity.audit(
            tx, org_id, actor, "organisation.require_second_factor", org_id, {"required": required}
        )
    return replace(before, settings=settings)


@dataclass(frozen=True, slots=True)
class Allotment:
    """What the operator grants an organisation; None leaves it as it is.

    `weight` is its share of the workers relative to the others'. `balance_micros` is what it has paid in
    advance, in millionths of a USD; `unmetered` ends asking for that; `top_up_micros` is added. `bounds` are how many
    objects it may have, by the names of their settings; None: as the installation has it.
    """

    weight: float | None = None
    balance_micros: int | None = None
    unmetered: bool = False
    top_up_micros: int = 0
    active: bool | None = None
    bounds: Mapping[str, int | None] = field(default_factory=dict)


def allot(tx: Tx, org_id: str, granted: Allotment, actor: str, operator_id: str) -> OrganisationRow:
    """Change what an organisation is allotted; admission obeys at once. The organisation.

    `operator_id` is the organisation that runs the installation: it cannot be deactivated.
    Errors: `NotFound` organisation_not_found, `Conflict` own_organisation or erasure_begun, `InvalidRequest`
    no_balance (a top-up needs one to add to) or invalid_field (no such bound).
    """
    if granted.active is False and org_id == operator_id:
        raise Conflict("The operator's own organisation stays open.", code="own_organisation", field="active")
    identity.lock_organisation(tx, org_id)
    before = own(tx, org_id)
    if granted.active and is_erasing(before.settings):
        raise Conflict(
            "This organisation is being erased: it stays closed.", code="erasure_begun", field="active"
        )
    balance = None if granted.unmetered else before.balance_micros
    balance = granted.balance_micros if granted.balance_micros is not None else balance
    if granted.top_up_micros:
        if balance is None:
            raise InvalidRequest(
                "This organisation has no balance to top up: set one.", code="no_balance", field="top_up"
            )
        balance += granted.top_up_micros
    wanted = {"weight": granted.weight, "active": granted.active}
    values: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None} | {
        "balance_micros": balance
    }
    if granted.bounds:
        values["settings"] = _bounded(before.settings or {}, granted.bounds)
    changed: dict[str, Any] = {
        name: value for name, value in values.items() if getattr(before, name) != value
    }
    if changed:
        identity.update_organisation(tx, org_id, **changed)
        identity.audit(tx, org_id, actor, "organisation.allot", org_id, changed)
    if granted.bounds:
        caps.forget(org_id)
    if granted.weight is not None:
        lanes.weigh(tx, org_id, granted.weight)
    return replace(before, **changed)


def _bounded(settings: Mapping[str, Any], bounds: Mapping[str, int | None]) -> JsonObject | None:
    known = sorted({cap.setting for cap in CAPS.values()} | {CAP_SETTING})
    for name in bounds:
        if name not in known:
            raise InvalidRequest(
                f"There is no bound {name!r}; there are: {', '.join(known)}.",
                code="invalid_field",
                field="bounds",
            )
    return {name: value for name, value in {**settings, **bounds}.items() if value is not None} or None


def own(tx: Tx, org_id: str) -> OrganisationRow:
    """The organisation; `NotFound` organisation_not_found."""
    return existing(tx.conn, org_id)


def existing(conn: Connection, org_id: str) -> OrganisationRow:
    """As `own`, for readers."""
    found = identity.organisation(conn, org_id)
    if found is None:
        raise NotFound("There is no such organisation.", code="organisation_not_found")
    return found
