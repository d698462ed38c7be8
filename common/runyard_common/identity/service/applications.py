"""Applications: what an organisation builds on Runyard; keys and end-users belong to one."""

from __future__ import annotations

from typing import Any, Final

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import applications, identity
from runyard_common.identity.service import caps
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import uuid7

PREFIX: Final = "app_"
Row = dict[str, Any]


def ensure_default(tx: Tx, org_id: str) -> Row:
    """The organisation's default application, made when there is none."""
    found = applications.default(tx.conn, org_id)
    if found is None:
        identity.lock_organisation(tx, org_id)
        found = applications.default(tx.conn, org_id)
    if found is None:
        row: Row = {"id": PREFIX + uuid7(), "org_id": org_id, "name": "Default", "is_default": True}
        applications.add(tx, row)
        found = own(tx, org_id, row["id"])
    return found


def every(tx: Tx, org_id: str) -> list[Row]:
    """All applications of an organisation, the default one among them."""
    ensure_default(tx, org_id)
    return applications.every(tx.conn, org_id)


def own(tx: Tx, org_id: str, application_id: str) -> Row:
    """An application of the organisation; `NotFound` application_not_found."""
    found = applications.get(tx.conn, org_id, application_id)
    if found is None:
        raise NotFound("There is no such application.", code="application_not_found", field="applicationId")
    return found


def create(tx: Tx, org_id: str, name: str, settings: Any, actor: str, id_: str | None = None) -> Row:
    """Make an application. Error: `Conflict` too_many_applications."""
    caps.check(tx, org_id, "applications")
    row = {
        "id": PREFIX + (id_ or uuid7()),
        "org_id": org_id,
        "name": name,
        "settings": settings,
        "created_by": actor,
    }
    applications.add(tx, row)
    identity.audit(tx, org_id, actor, "application.create", row["id"], {"name": name})
    return own(tx, org_id, row["id"])


def change(tx: Tx, org_id: str, application_id: str, values: Row, actor: str) -> Row:
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
    if own(tx, org_id, application_id)["is_default"]:
        raise InvalidRequest(
            "The default application cannot be deleted.", code="default_application", field="id"
        )
    applications.remove(tx, application_id)
    revoked = identity.revoke_keys_of(tx, org_id, application_id)
    identity.audit(tx, org_id, actor, "application.delete", application_id, {"keys": len(revoked)})
    return revoked
