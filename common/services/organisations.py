"""Organisations: making and renaming them, and how long they keep what has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.domain.errors import NotFound
from common.domain.retention import SETTING, check_retention
from common.domain.roles import Role
from common.store import identity, members
from common.store.transaction import Tx


def create(tx: Tx, name: str, actor: str, owner_id: str | None, id_: str | None = None) -> dict[str, Any]:
    """Make an organisation; the person `owner_id`, if any, is its first owner. The organisation."""
    org_id = identity.insert_organisation(tx, name, id_)
    if owner_id is not None:
        members.add(tx, org_id, owner_id, Role.OWNER.value)
    identity.audit(tx, org_id, actor, "organisation.create", org_id, {"name": name, "owner": owner_id})
    return own(tx, org_id)


def rename(tx: Tx, org_id: str, name: str, actor: str) -> dict[str, Any]:
    """Change an organisation's name. The organisation; `NotFound` organisation_not_found."""
    before = own(tx, org_id)
    if before["name"] != name:
        identity.rename_organisation(tx, org_id, name)
        data = {"from": before["name"], "to": name}
        identity.audit(tx, org_id, actor, "organisation.rename", org_id, data)
    return before | {"name": name}


def retain(tx: Tx, org_id: str, retention: Mapping[str, float | None] | None, actor: str) -> dict[str, Any]:
    """Set how many days what has ended is kept (None: as the installation has it). The organisation.

    Errors: `NotFound` organisation_not_found, `InvalidRequest` invalid_retention.
    """
    before = own(tx, org_id)
    settings = {name: value for name, value in (before["settings"] or {}).items() if name != SETTING}
    if retention is not None:
        settings[SETTING] = check_retention(retention)
    if settings != (before["settings"] or {}):
        identity.set_settings(tx, org_id, settings)
        identity.audit(tx, org_id, actor, "organisation.retain", org_id, {"retention": settings.get(SETTING)})
    return before | {"settings": settings}


def own(tx: Tx, org_id: str) -> dict[str, Any]:
    """The organisation; `NotFound` organisation_not_found."""
    found = identity.organisation(tx.conn, org_id)
    if found is None:
        raise NotFound("There is no such organisation.", code="organisation_not_found")
    return found
