"""Health, readiness, metrics: for whoever watches the process."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from api import metrics
from api.call import Call, reply
from api.native import schemas
from api.native.front import NATIVE
from api.operations import Answer, Routes
from api.state import State
from common.domain.errors import Unavailable
from common.services import queues

log = structlog.get_logger()
routes = Routes(NATIVE, "system")

_ROOT: Final = ("",)
_PATIENCE: Final = 2.0


class Health(schemas.Shape):
    """Whether the process lives."""

    status: str


class Readiness(schemas.Shape):
    """Whether runs are accepted, and which parts answer."""

    status: str
    checks: dict[str, str]


@routes.get("/healthz", None, prefixes=_ROOT, answers=[Answer(200, "It lives.", Health)])
async def healthz(call: Call) -> Response:
    """Tell that the process lives."""
    return reply({"status": "ok"})


@routes.get(
    "/readyz", None, prefixes=_ROOT, answers=[Answer(200, "Runs are accepted.", Readiness)], errors=(503,)
)
async def readyz(call: Call) -> Response:
    """Tell whether runs are accepted.

    The database must answer. Without the broker or the live stream the status is degraded: runs are stored,
    start when it is back, and streams read the database.
    """
    state = call.state
    if state.stopping.is_set():
        raise Unavailable("The process is stopping.", code="stopping", retry_after=1)
    await _check_database(state)
    live = "ok" if state.follower.connected else "away"
    files = "ok" if await _files_answer(state) else "away"
    checks = {"database": "ok", "live_stream": live, "files": files}
    status = "ok" if set(checks.values()) == {"ok"} else "degraded"
    return reply({"status": status, "checks": checks})


async def _check_database(state: State) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await state.reader.one(_ping)
    except (SQLAlchemyError, TimeoutError) as error:
        log.warning("The database does not answer.", action="readyz", reason=str(error)[:200])
        raise Unavailable(
            "The database does not answer.", code="database_unavailable", retry_after=2
        ) from None


def _ping(conn: Connection) -> None:
    conn.execute(text("SELECT 1 FROM organisations LIMIT 1"))


async def _files_answer(state: State) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            await state.aside(state.files.check)
    except Exception as error:  # noqa: BLE001 - whatever it is, the file store is away
        log.warning("The file store does not answer.", action="readyz", reason=str(error)[:200])
        return False
    return True


@routes.get(
    "/metrics",
    None,
    prefixes=_ROOT,
    answers=[Answer(200, "Metrics for Prometheus.", {"type": "string"}, "text/plain")],
    errors=(503,),
)
async def prometheus(call: Call) -> Response:
    """Tell what Prometheus collects. Nothing names an organisation."""
    state = call.state
    per_worker = state.settings.worker_concurrency
    found = await state.reader.one(lambda conn: queues.backlog(conn, time.time(), per_worker))
    own = await state.aside(generate_latest, metrics.REGISTRY)
    return Response(own + _gauges(found.to_json()), media_type=CONTENT_TYPE_LATEST)


def _gauges(backlog: dict[str, Any]) -> bytes:
    """The backlog as gauges, read afresh at each collection."""
    families = [
        GaugeMetricFamily(f"runyard_{name}", "See GET /ops/queue.", value) for name, value in backlog.items()
    ]

    class _Once:
        def collect(self) -> list[GaugeMetricFamily]:
            return families

    return generate_latest(_Once())
