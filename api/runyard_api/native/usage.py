"""What model turns used and cost: sums by agent, session, key, model or task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Parameters, instant_of, moment, when
from runyard_common.usage import queries as usage
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("usage")
_DAYS_30 = 30 * 86_400.0


class UsageParameters(Parameters):
    """Which turns, and how they are summed."""

    by: Literal["agent", "session", "key", "model", "task"] = Field(
        "agent", description="What a row sums up."
    )
    since: str | None = moment("RFC 3339, inclusive; by default 30 days ago.")
    until: str | None = moment("RFC 3339, exclusive; by default now.")
    limit: int = Field(100, ge=1, le=1000, description="How many rows at most; the total counts all.")


class UsageSum(schemas.Shape):
    """The sum of some turns."""

    turns: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int = Field(description="Of the input tokens, those the provider had cached.")
    cost: float = Field(description="In USD, by the prices in force at each turn.")
    last_at: str | None


class UsageRow(UsageSum):
    """The turns of one agent, session, key, model or task."""

    id: str | None = Field(description="What the row sums up; null: none (runs without a session or key).")
    name: str | None = Field(description="The agent's or the key's name.")


class UsageReport(schemas.Shape):
    """Usage, the costliest first."""

    by: str
    since: str
    until: str
    data: list[UsageRow]
    total: UsageSum


@routes.get("/usage", "usage:read", query=UsageParameters, answers=[Answer(200, "The usage.", UsageReport)])
async def report_usage(call: Call) -> Response:
    """Sum the organisation's model usage over a time, the costliest first."""
    given = call.query(UsageParameters)
    until = instant_of(given.until, "until") if given.until is not None else call.state.now()
    since = instant_of(given.since, "since") if given.since is not None else until - _DAYS_30
    span = usage.Span(since, until)
    rows, total = await call.read(
        lambda scope: (usage.sums(scope, span, given.by, given.limit), usage.total(scope, span))
    )
    document = {"by": given.by, "since": when(since), "until": when(until), "total": _sum(total)}
    return reply(document | {"data": [_sum(row) | {"id": row.id, "name": row.name} for row in rows]})


def _sum(row: usage.UsageSum) -> JsonObject:
    counts = {
        name: int(getattr(row, name) or 0)
        for name in ("turns", "input_tokens", "output_tokens", "cached_tokens")
    }
    return counts | {"cost": int(row.cost_micros or 0) / 1_000_000, "last_at": when(row.last_at)}
