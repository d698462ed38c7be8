"""GET /health: whether this server works (contract, section 14)."""

from __future__ import annotations

import time
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.surfaces.appstrate.front import AppstrateRoutes
from runyard_api.surfaces.appstrate.schemas import Open

routes = AppstrateRoutes("appstrate system")

_STARTED: Final = time.monotonic()


class AppstrateHealth(Open):
    """How this server does."""

    status: Literal["healthy", "degraded", "unhealthy"]
    uptime_ms: int
    checks: dict[str, Any]


@routes.get(
    "/health",
    None,
    prefixes=("",),
    answers=[
        Answer(200, "It works, perhaps without its live stream.", AppstrateHealth),
        Answer(503, "It does not.", AppstrateHealth),
    ],
)
async def health(call: Call) -> Response:
    """Report how this server does."""
    state = call.state
    try:
        await state.reader.one(lambda conn: conn.execute(text("SELECT 1 FROM organisations LIMIT 1")).first())
        database = "ok"
    except SQLAlchemyError:
        database = "away"
    live = "ok" if state.follower.connected else "away"
    status = "unhealthy" if database == "away" else "healthy" if live == "ok" else "degraded"
    checks = {"database": {"status": database}, "live_stream": {"status": live}}
    uptime = round((time.monotonic() - _STARTED) * 1000)
    body = {"status": status, "uptime_ms": uptime, "checks": checks}
    return reply(body, 503 if status == "unhealthy" else 200)
