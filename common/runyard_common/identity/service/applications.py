"""Applications: what an organisation builds on Runyard; keys and end-users belong to one."""

from __future__ import annotations

from typing import Any, Final

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import applications, identity
from runyard_common.identity.queries.applications import ApplicationRow
from runyard_common.identity.service import caps
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonObject

PREFIX: Final = "app_"


def ensure_default(tx: Tx, org_id: str) -> ApplicationRow:
    """The organisation's default application, made when there is none."""
    found = applications.default(tx.scope(org_id))
    if found is None:
        identity.lock_organisation(tx, org_id)
        found = applications.default(tx.scope(org_id))
    if found is None:
        found = ApplicationRow(PREFIX + uuid7(), org_id, "Default", tx.now, tx.now, is_default=True)
        applications.add(tx, found)
    return found


def every(tx: Tx, org_id: str) -> list[ApplicationRow]:
    """All applications of an organisation, the default one among them."""
    ensure_default(tx, org_id)
    return applications.every(tx.scope(org_id))


def own(tx: Tx, org_id: str, application_id: str) -> ApplicationRow:
    """An application of the organisation; `NotFound` application_not_found."""
    found = applications.get(tx.scope(org_id), application_id)
    if found is None:
        raise NotFound("There is no such application.", code="application_not_found", field="applicationId")
    return found


def create(
    tx: Tx, org_id: str, name: str, settings: JsonObject | None, actor: str, id_: str | None = None
) -> ApplicationRow:
    """Make an application. Error: `Conflict` too_many_applications."""
    caps.check(tx, org_id, "applications")
    made = ApplicationRow(
        PREFIX + (id_ or uuid7()), org_id, name, tx.now, tx.now, settings=settings, created_by=str(actor)
    )
    applications.add(tx, made)
    identity.audit(tx, org_id, actor, "application.create", made.id, {"name": name})
    return made


def change(tx: Tx, org_id: str, application_id: str, values: dict[str, Any], actor: str) -> ApplicationRow:
    """Set `name` or `settings`; `NotFound` application_not_found."""
    own(tx, org_id, application_id)
    if values:
        applications.change(tx, application_id, **values)
        identity.audit(tx, org_id, actor, "application.update", application_id, {"fields": sorted(values)})
    return own(tx, org_id, application_id)


def delete(tx: Tx, org_id: str, application_id: str, actor: str) -> list[str]:
    """Delete an application with its end-users and revoke its keys; the hashes of those keys.

    Errors: `NotFound` application_not_found, `InvalidRequest` default_application.
    """
    if own(tx, org_id, application_id).is_default:
        raise InvalidRequest(
            "The default application cannot be deleted.", code="default_application", field="id"
        )
    applications.remove(tx, application_id)
    revoked = identity.revoke_keys_of(tx, org_id, application_id)
    identity.audit(tx, org_id, actor, "application.delete", application_id, {"keys": len(revoked)})
    return revoked
