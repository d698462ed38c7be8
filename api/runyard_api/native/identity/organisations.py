"""The organisation one works for, and making others."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, when
from runyard_api.native.identity import account
from runyard_api.native.identity.members import InvitationMade, create_with_secret, invitation_json, link_json
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries.identity import OrganisationRow
from runyard_common.identity.rules import emails
from runyard_common.identity.rules.retention import Retention
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import members
from runyard_common.identity.service import organisations as service
from runyard_common.identity.service.members import By, Invited
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import Forbidden, InvalidRequest
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("organisations")


def _printable(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise ValueError("write it in printable characters")
    return name.strip()


OrganisationName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Days = dict[str, float | None]


class OrganisationChange(Strict):
    """What to change; what is left out stays."""

    name: OrganisationName | None = None
    retention: Days | None = Field(
        None,
        description="Days that what has ended is kept: completed, failed, stopped, sessions, usage; null for ever."
        " Replaces what was set; what it leaves out is as the installation has it.",
    )
    second_factor_required: bool | None = Field(
        None, description="Whether people without a second factor are kept out. Keys are not concerned."
    )


class NewOrganisation(Strict):
    """An organisation to make."""

    name: OrganisationName
    owner_email: str | None = Field(
        None, max_length=emails.LONGEST, description="Who is invited to own it; by default who signed in."
    )


class OrganisationView(schemas.Shape):
    """An organisation."""

    id: str
    name: str
    retention: Days = Field(description="Days that what has ended is kept; null for ever.")
    second_factor_required: bool = Field(description="Whether people without a second factor are kept out.")
    created_at: str


class OrganisationMade(OrganisationView):
    """An organisation just made, with the invitation of its owner where one was named."""

    invitation: InvitationMade | None


def organisation_json(row: OrganisationRow, retention_days: float) -> JsonObject:
    """An organisation as the native API shows it; `retention_days` is the installation's."""
    kept = Retention.of(row.settings, retention_days).to_json()
    return {
        "id": row.id,
        "name": row.name,
        "retention": kept,
        "second_factor_required": service.requires_second_factor(row.settings),
        "created_at": when(row.created_at),
    }


@routes.post(
    "/organisations",
    "organisation:create",
    body=NewOrganisation,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The organisation.", OrganisationMade)],
)
async def create_organisation(call: Call) -> Response:
    """Make an organisation, which sees only its own.

    For admins and owners of the operator's organisation. A person who signed in becomes its owner, unless
    `owner_email` names another person, who is invited. A key or token names one.
    """
    body = await call.json(NewOrganisation)
    if call.org_id != call.state.org_id:
        raise Forbidden("Only the operator of the installation makes organisations.", code="operator_only")
    person = await account.signed_in(call)
    if body.owner_email is None and person is None:
        raise InvalidRequest(
            "Name who is to own it: a key cannot.", code="missing_field", field="owner_email"
        )
    email = None if body.owner_email is None else emails.normalised(body.owner_email, "owner_email")
    owner_id = person.user_id if person is not None and email is None else None

    def shown(made: tuple[OrganisationRow, Invited | None]) -> JsonObject:
        row, invited = made
        invitation = invited and invitation_json(invited.row) | link_json(call, None)
        return organisation_json(row, call.state.settings.retention_days) | {"invitation": invitation}

    response = await create_with_secret(
        call,
        lambda tx: _create(tx, body.name, call.actor, owner_id, email),
        shown,
        lambda made: link_json(call, made[1].token) if made[1] else {},
        _with_link,
    )
    call.state.forget_callers()
    return response


def _create(
    tx: Tx, name: str, actor: str, owner_id: str | None, email: str | None
) -> tuple[OrganisationRow, Invited | None]:
    row = service.create(tx, name, actor, owner_id)
    invited = members.invite(tx, row.id, email, Role.OWNER, By(actor, Role.OWNER)) if email else None
    return row, invited


def _with_link(body: JsonObject, link: JsonObject) -> JsonObject:
    return body | {"invitation": body["invitation"] and body["invitation"] | link}


@routes.get(
    "/organisation",
    "organisation:read",
    answers=[Answer(200, "The organisation.", OrganisationView)],
)
async def get_organisation(call: Call) -> Response:
    """Read the organisation the call is for."""
    row = await call.state.preview(service.own, call.org_id)
    return reply(organisation_json(row, call.state.settings.retention_days))


@routes.patch(
    "/organisation",
    "organisation:write",
    body=OrganisationChange,
    answers=[Answer(200, "The organisation as it is now.", OrganisationView)],
    errors=(409,),
)
async def change_organisation(call: Call) -> Response:
    """Rename the organisation the call is for, set how long it keeps what has ended, or require second factors."""
    body = await call.json(OrganisationChange)
    who = call.principal
    row = await call.write(_change, body, who.actor, who.user_id)
    call.state.forget_callers()
    return reply(organisation_json(row, call.state.settings.retention_days))


def _change(
    tx: Tx, org_id: str, body: OrganisationChange, actor: str, person_id: str | None
) -> OrganisationRow:
    row = service.own(tx, org_id)
    if body.name is not None:
        row = service.rename(tx, org_id, body.name, actor)
    if "retention" in body.model_fields_set:
        row = service.retain(tx, org_id, body.retention, actor)
    if body.second_factor_required is not None:
        row = service.require_second_factor(tx, org_id, body.second_factor_required, actor, person_id)
    return row
