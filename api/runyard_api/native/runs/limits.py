"""Limits: how much may run at once, start in a window, or be spent; changed at run time."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, when
from runyard_api.native.ops import is_operator
from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.runs.queries import limit_usage, limits
from runyard_common.runs.rules.admission import Kind, Rule
from runyard_common.runs.rules.run_request import Strict
from runyard_common.runs.service import limits as service
from runyard_common.runs.service.limits import LimitRequest
from runyard_common.values.errors import NotFound

routes = NativeRoutes("limits")


class LimitBody(Strict):
    """A limit: what it counts, for whom, and how much is allowed."""

    kind: Literal["organisation", "agent", "end_user", "session", "model", "key"]
    selector: str = Field(
        "*", min_length=1, max_length=200,
        description="Which one: a name or id, of an agent any that it answers to; * means each by itself; for kind key "
        "a JSON pointer into args.",
    )  # fmt: skip
    max_concurrent: int | None = Field(None, ge=0, le=10**9, description="Runs at once.")
    rate_count: int | None = Field(None, ge=0, le=10**9, description="Starts in a window …")
    rate_seconds: float | None = Field(
        None, gt=0, le=service.LONGEST_WINDOW, description="… of so many seconds."
    )
    tokens_per_minute: int | None = Field(None, ge=0, le=10**12)
    strategy: Literal["enqueue", "reject", "interrupt"] = "enqueue"

    @property
    def request(self) -> LimitRequest:
        return LimitRequest(**self.model_dump())


class LimitView(schemas.Shape):
    """A limit. Those of the operator bind all organisations and cannot be changed here."""

    id: str
    kind: str
    selector: str
    max_concurrent: int | None
    rate_count: int | None
    rate_seconds: float | None
    tokens_per_minute: int | None
    strategy: str
    operator: bool
    created_at: str
    updated_at: str


class LimitList(schemas.Shape):
    """Every limit that binds the organisation."""

    data: list[LimitView]


def limit_json(rule: Rule) -> dict[str, Any]:
    names = (
        "id",
        "kind",
        "selector",
        "max_concurrent",
        "rate_count",
        "rate_seconds",
        "tokens_per_minute",
        "strategy",
    )
    return {name: getattr(rule, name) for name in names} | {
        "operator": rule.org_id == "*",
        "created_at": when(rule.created_at),
        "updated_at": when(rule.updated_at),
    }


def _save(tx: Tx, org_id: str, wanted: LimitRequest, actor: str, limit_id: str | None = None) -> Rule:
    saved = service.save(tx, org_id, _of_an_agent(tx.scope(org_id), wanted), limit_id)
    identity.audit(tx, org_id, actor, "limit.save", saved.id, limit_json(saved))
    return saved


def _of_an_agent(scope: OrgScope, wanted: LimitRequest) -> LimitRequest:
    """The limit with its agent's full name, by which runs are counted. Error: `NotFound` agent_not_found."""
    if wanted.kind != Kind.AGENT or wanted.selector == "*":
        return wanted
    try:
        return replace(wanted, selector=agents.resolve(scope, wanted.selector).agent.name)
    except NotFound as missing:
        missing.field = "selector"
        raise


def _remove(tx: Tx, org_id: str, limit_id: str, actor: str) -> None:
    service.remove(tx, org_id, limit_id)
    identity.audit(tx, org_id, actor, "limit.delete", limit_id)


@routes.get("/limits", "limits:read", answers=[Answer(200, "The limits.", LimitList)])
async def list_limits(call: Call) -> Response:
    """List the limits that bind the organisation."""
    rules = await call.read(limits.of_organisation)
    return reply({"data": [limit_json(rule) for rule in rules]})


class LimitValue(schemas.Shape):
    """What a limit counts of one value."""

    value: str = Field(description="Which one; of a limit on all, each that is in use.")
    in_use: int = Field(description="Runs that have a slot: under way, or waiting for a worker.")
    waiting: int = Field(description="Runs that it keeps queued.")
    starts: int = Field(description="In the window of its rate.")
    tokens: int = Field(description="In the last minute; 0 where they are not limited.")


class LimitUsage(schemas.Shape):
    """How full a limit is."""

    limit_id: str
    values: list[LimitValue] = Field(description="The fullest first, 20 at most.")


class LimitUsages(schemas.Shape):
    """How full the limits are. The operator's, which count over every organisation, are shown to the operator."""

    data: list[LimitUsage]


@routes.get("/limits/usage", "limits:read", answers=[Answer(200, "How full the limits are.", LimitUsages)])
async def limits_usage(call: Call) -> Response:
    """Count what each limit has in use now, and what it keeps waiting."""
    all_of_them = is_operator(call, call.principal)

    def look(tx: Tx) -> dict[str, list[limit_usage.Counted]]:
        rules = limits.of_organisation(tx.scope(call.org_id))
        return limit_usage.usage(tx, [rule for rule in rules if all_of_them or rule.org_id != "*"])

    found = await call.state.preview(look)
    return reply(
        {"data": [{"limit_id": id_, "values": [asdict(one) for one in of]} for id_, of in found.items()]}
    )


@routes.post(
    "/limits",
    "limits:write",
    body=LimitBody,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The limit; it binds from now on.", LimitView)],
    errors=(404,),
)
async def create_limit(call: Call) -> Response:
    """Make a limit.

    Runs under way are counted at once, none is ended.
    """
    wanted = (await call.json(LimitBody)).request

    return await idempotency.create(
        call,
        lambda tx: _save(tx, call.org_id, wanted, call.actor),
        lambda saved: reply(limit_json(saved), 201),
    )


@routes.get("/limits/{limit_id}", "limits:read", answers=[Answer(200, "The limit.", LimitView)])
async def get_limit(call: Call) -> Response:
    """Read a limit."""
    found = await call.read(limits.of_organisation, call.params["limit_id"])
    if not found:
        raise NotFound("There is no such limit.", code="limit_not_found", field="limit_id")
    return reply(limit_json(found[0]))


@routes.put(
    "/limits/{limit_id}",
    "limits:write",
    body=LimitBody,
    answers=[Answer(200, "The limit as it is now.", LimitView)],
)
async def replace_limit(call: Call) -> Response:
    """Replace a limit; what it held is looked at again at once."""
    wanted = (await call.json(LimitBody)).request
    saved = await call.write(_save, wanted, call.actor, call.params["limit_id"])
    return reply(limit_json(saved))


@routes.delete("/limits/{limit_id}", "limits:delete", answers=[Answer(204, "It binds no longer.")])
async def delete_limit(call: Call) -> Response:
    """Delete a limit; what it held is admitted."""
    await call.write(_remove, call.params["limit_id"], call.actor)
    return Response(status_code=204)
