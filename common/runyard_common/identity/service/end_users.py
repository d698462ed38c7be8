"""End-users: people on whose behalf an application runs agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import IntegrityError

from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import applications, identity
from runyard_common.identity.queries.applications import EndUserRow
from runyard_common.identity.service import caps
from runyard_common.identity.service.applications import ensure_default
from runyard_common.identity.service.applications import own as application
from runyard_common.values.errors import Conflict, InvalidRequest, NotFound
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonObject

PREFIX: Final = "eu_"
MOST_METADATA: Final = 50
_LONGEST_KEY, _LONGEST_VALUE = 40, 500


@dataclass(frozen=True, slots=True)
class EndUserRequest:
    """An end-user to make; `application_id` None: of the default application."""

    application_id: str | None = None
    name: str | None = None
    email: str | None = None
    external_id: str | None = None
    metadata: JsonObject | None = None


def may_act(scope: OrgScope, application_id: str | None, end_user_id: str) -> bool:
    """Whether a key of this application (None: of the whole organisation) may act for the end-user."""
    found = applications.end_user(scope, end_user_id)
    return found is not None and application_id in (None, found.application_id)


def create(tx: Tx, org_id: str, wanted: EndUserRequest, actor: str, id_: str | None = None) -> EndUserRow:
    """Make an end-user; one with the reserved UUID `id_`, if it was made before, is returned again.

    Errors: `NotFound` application_not_found, `Conflict` external_id_taken, `InvalidRequest` invalid_metadata.
    """
    check_metadata(wanted.metadata)
    if id_ and (known := applications.end_user(tx.scope(org_id), PREFIX + id_)) is not None:
        return known
    chosen = (
        application(tx, org_id, wanted.application_id)
        if wanted.application_id
        else ensure_default(tx, org_id)
    )
    made = EndUserRow(
        id=PREFIX + (id_ or uuid7()), org_id=org_id, application_id=chosen.id, created_at=tx.now, updated_at=tx.now,
        name=wanted.name, email=wanted.email, external_id=wanted.external_id, meta=wanted.metadata or None,
    )  # fmt: skip
    _check_free(tx, chosen.id, wanted.external_id)
    caps.check(tx, org_id, "end_users")
    try:
        applications.add_end_user(tx, made)
    except IntegrityError:
        raise _id_in_use() from None
    identity.audit(tx, org_id, actor, "end_user.create", made.id)
    return made


def own(scope: OrgScope, end_user_id: str, application_id: str | None = None) -> EndUserRow:
    """An end-user of the organisation (and application, where given); `NotFound` end_user_not_found."""
    found = applications.end_user(scope, end_user_id)
    if found is None or application_id not in (None, found.application_id):
        raise NotFound("There is no such end-user.", code="end_user_not_found")
    return found


def change(
    tx: Tx, org_id: str, end_user_id: str, values: JsonObject, actor: str, application_id: str | None = None
) -> EndUserRow:
    """Set `name`, `email`, `external_id`; `metadata` merges, null values remove their keys.

    Errors: `NotFound`, `Conflict` external_id_taken, `InvalidRequest` invalid_metadata.
    """
    before = own(tx.scope(org_id), end_user_id, application_id)
    columns: dict[str, Any] = {
        name: values[name] for name in ("name", "email", "external_id") if name in values
    }
    if values.get("metadata") is not None:
        merged = (before.meta or {}) | values["metadata"]
        kept = {name: value for name, value in merged.items() if value is not None}
        check_metadata(kept)
        columns["meta"] = kept or None
    if columns.get("external_id") not in (None, before.external_id):
        _check_free(tx, before.application_id, columns["external_id"])
    if columns:
        applications.change_end_user(tx, end_user_id, **columns)
        identity.audit(tx, org_id, actor, "end_user.update", end_user_id, {"fields": sorted(columns)})
    return own(tx.scope(org_id), end_user_id)


def delete(tx: Tx, org_id: str, end_user_id: str, actor: str, application_id: str | None = None) -> None:
    """Delete an end-user; their runs stay. `NotFound` end_user_not_found."""
    own(tx.scope(org_id), end_user_id, application_id)
    applications.remove_end_user(tx, end_user_id)
    identity.audit(tx, org_id, actor, "end_user.delete", end_user_id)


def check_metadata(metadata: JsonObject | None) -> None:
    """At most 50 keys of 40 characters, texts of 500: `InvalidRequest` invalid_metadata."""
    given = metadata or {}
    if len(given) > MOST_METADATA:
        raise _bad(f"metadata has at most {MOST_METADATA} keys.")
    for name, value in given.items():
        if len(name) > _LONGEST_KEY:
            raise _bad(f"A key of metadata has at most {_LONGEST_KEY} characters.")
        if not isinstance(value, str | int | float | bool | None):
            raise _bad(f"metadata.{name} is a text, number or boolean.")
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            raise _bad(f"metadata.{name} has at most {_LONGEST_VALUE} characters.")


def _bad(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_metadata", field="metadata")


def _check_free(tx: Tx, application_id: str, external_id: str | None) -> None:
    if external_id is not None and applications.has_external_id(tx.conn, application_id, external_id):
        raise _id_in_use()


def _id_in_use() -> Conflict:
    return Conflict(
        "Another end-user of this application has this externalId.",
        code="external_id_taken",
        field="externalId",
    )
