"""Operator view: organisations, weights, balances, bounds, deactivation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Paging, page, when
from runyard_api.native.ops import is_operator
from runyard_common.identity.queries import identity
from runyard_common.identity.queries.identity import OrganisationRow
from runyard_common.identity.service import organisations as service
from runyard_common.identity.service.caps import Use, report
from runyard_common.identity.service.organisations import Allotment
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import Forbidden, NotFound
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("ops")
_MOST_USD = 1_000_000_000.0


class AllotmentBody(Strict):
    """What to change; what is left out stays."""

    weight: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Share of the workers, relative to the other organisations' (1 at first).",
    )
    balance: float | None = Field(
        None,
        ge=-_MOST_USD,
        le=_MOST_USD,
        description="USD paid in advance that are left; null: it is not asked for.",
    )
    top_up: float | None = Field(None, gt=0, le=_MOST_USD, description="USD to add to the balance.")
    active: bool | None = Field(None, description="false: its callers are refused; its runs go on.")
    bounds: dict[str, Annotated[int, Field(ge=0, le=2**53)] | None] | None = Field(
        None,
        description="How many objects of a kind it may have (max_keys, max_storage_bytes, … as GET "
        "/ops/organisations/{organisation_id}/bounds names them); null: as many as the installation's setting.",
    )


class Tenant(schemas.Shape):
    """An organisation, as its operator sees it."""

    id: str
    name: str
    active: bool
    weight: float
    balance: float | None = Field(description="USD left; null where none is asked for.")
    created_at: str


class TenantPage(schemas.Shape):
    """A page of organisations, newest first."""

    data: list[Tenant]
    has_more: bool
    next_cursor: str | None


@routes.get(
    "/ops/organisations",
    "ops:read",
    query=Paging,
    answers=[Answer(200, "A page of organisations.", TenantPage)],
)
async def list_tenants(call: Call) -> Response:
    """List every organisation of the installation; for the operator only."""
    given = call.query(Paging)
    if not is_operator(call, call.principal):
        raise Forbidden("The organisations are the operator's.", code="operator_only")
    rows = await call.state.reader.one(
        lambda conn: identity.organisations(conn, given.limit + 1, given.before)
    )
    return reply(page([_tenant(row) for row in rows], given.limit, [row.id for row in rows]))


@routes.patch(
    "/ops/organisations/{organisation_id}",
    "organisation:create",
    body=AllotmentBody,
    answers=[Answer(200, "The organisation as it is now.", Tenant)],
    errors=(409,),
)
async def allot(call: Call) -> Response:
    """Set an organisation's share of the workers, balance and bounds, or deactivate it; for the operator only.

    With a balance, runs are refused with 402 once it is used up, and those under way wait for a review.
    """
    body = await call.json(AllotmentBody)
    org_id = call.params["organisation_id"]
    if not is_operator(call, call.principal):
        if org_id != call.org_id:
            raise NotFound("There is no such organisation.", code="organisation_not_found")
        raise Forbidden("What an organisation is allotted is the operator's.", code="operator_only")
    granted = Allotment(
        weight=body.weight,
        balance_micros=None if body.balance is None else round(body.balance * 1_000_000),
        unmetered=body.balance is None and "balance" in body.model_fields_set,
        top_up_micros=round((body.top_up or 0.0) * 1_000_000),
        active=body.active,
        bounds=body.bounds or {},
    )
    row = await call.state.write(service.allot, org_id, granted, call.actor, call.state.org_id)
    call.state.forget_callers()
    return reply(_tenant(row))


class BoundView(schemas.Shape):
    """A bound, and how much of it is used."""

    name: str
    of: str = Field(
        description="What is counted together: the organisation, or one agent, datastore, question, task."
    )
    used: int | None = Field(description="null: it is not counted by organisation.")
    most: int
    own: bool = Field(description="Set for this organisation; else it is the installation's setting.")


class BoundList(schemas.Shape):
    """Every bound on what an organisation may have."""

    data: list[BoundView]


@routes.get(
    "/ops/organisations/{organisation_id}/bounds",
    "ops:read",
    answers=[Answer(200, "The bounds.", BoundList)],
)
async def list_bounds(call: Call) -> Response:
    """Return what an organisation has of each kind of object, and how much it may have.

    An organisation reads its own, the operator all.
    """
    org_id = call.params["organisation_id"]
    if org_id != call.org_id and not is_operator(call, call.principal):
        raise NotFound("There is no such organisation.", code="organisation_not_found")
    db, own = call.state.db, call.state.store.caps

    def look(conn: Connection) -> list[Use]:
        service.existing(conn, org_id)
        return report(conn, org_id, own, db.now(conn))

    return reply({"data": [_bound(use) for use in await call.state.reader.one(look)]})


def _bound(use: Use) -> JsonObject:
    return {"name": use.setting, "of": use.of, "used": use.used, "most": use.most, "own": use.own}


def _tenant(row: OrganisationRow) -> JsonObject:
    micros = row.balance_micros
    return {name: getattr(row, name) for name in ("id", "name", "active", "weight")} | {
        "balance": None if micros is None else micros / 1_000_000,
        "created_at": when(row.created_at),
    }
