"""Health, readiness, metrics: for monitoring."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client.exposition import choose_encoder
from pydantic import Field
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from runyard_api import metrics
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer, Routes
from runyard_api.native import schemas
from runyard_api.native.front import NATIVE
from runyard_api.state import State
from runyard_common.credentials.queries import key_files
from runyard_common.database import outages
from runyard_common.identity.rules import server_proof
from runyard_common.metrics import server
from runyard_common.values.errors import ConfigurationError, Unauthorized, Unavailable
from runyard_common.values.outages import Diagnosis, Outage

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
    #: Why a check is not ok, by its name.
    reasons: dict[str, str] = Field(default_factory=dict)


@routes.get("/healthz", None, prefixes=_ROOT, answers=[Answer(200, "It lives.", Health)])
async def healthz(call: Call) -> Response:
    """Report that the process lives."""
    answer = reply({"status": "ok"})
    challenge = call.headers.get(server_proof.CHALLENGE, "")
    if server_proof.well_formed(challenge) and (proof := _proof(call, challenge)):
        answer.headers[server_proof.PROOF] = proof
    return answer


def _proof(call: Call, challenge: str) -> str | None:
    """What shows a command that this process has its home; None where the home cannot be written or read."""
    try:
        key = key_files.kept(call.state.settings.home / server_proof.KEY_FILE, secrets.token_hex(32))
    except (ConfigurationError, OSError):
        return None
    return server_proof.proof(key, challenge, call.scope["server"][1])


@routes.get(
    "/readyz", None, prefixes=_ROOT, answers=[Answer(200, "Runs are accepted.", Readiness)], errors=(503,)
)
async def readyz(call: Call) -> Response:
    """Report whether runs are accepted.

    The database must answer, and the disk of an embedded one take a write. Without the broker or the live stream
    the status is degraded: runs are stored, idle workers find them by looking, and streams read the database.
    `reasons` holds what is wrong with each check that is not ok.
    """
    state = call.state
    if state.leaving or state.stopping.is_set():
        raise Unavailable("The process is stopping.", code="stopping", retry_after=1)
    await _check_database(state)
    found = await asyncio.gather(_broker(state), _live_stream(state), _files_answer(state))
    troubles = dict(zip(("broker", "live_stream", "files"), found, strict=True))
    checks = {"database": "ok"} | {name: one.outage.value if one else "ok" for name, one in troubles.items()}
    reasons = {name: one.reason for name, one in troubles.items() if one}
    return reply({"status": "degraded" if reasons else "ok", "checks": checks, "reasons": reasons})


async def _broker(state: State) -> Diagnosis | None:
    """Whether the broker takes a wake-up: declares the queue, which on Redis is a write."""
    return await _checked(state, state.runtime.notifier.check)


async def _live_stream(state: State) -> Diagnosis | None:
    """Whether Redis takes a published message, and this process follows it."""
    trouble = await _checked(state, state.runtime.stream.check)
    if trouble is None and not state.follower.connected:
        return Diagnosis(Outage.AWAY, "this process does not follow it yet; streams read the database")
    return trouble


async def _checked(state: State, check: Callable[[], Diagnosis | None]) -> Diagnosis | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await state.check_in_thread(check)
    except TimeoutError:
        return Diagnosis(Outage.AWAY, "it has not answered in time")


async def _check_database(state: State) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await state.reader.one(_ping)
            await state.check_in_thread(state.db.check_disk)
    except OSError as error:  # TimeoutError among them
        if outages.is_full(error):
            raise Unavailable("The disk of the database is full.", code="disk_full", retry_after=30) from None
        raise _unavailable(error) from None
    except (SQLAlchemyError, Unavailable) as error:
        raise _unavailable(error) from None


def _unavailable(error: Exception) -> Unavailable:
    log.warning("The database does not answer.", action="readyz", reason=str(error)[:200])
    return Unavailable("The database does not answer.", code="database_unavailable", retry_after=2)


def _ping(conn: Connection) -> None:
    conn.execute(text("SELECT 1 FROM organisations LIMIT 1"))


async def _files_answer(state: State) -> Diagnosis | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await state.check_in_thread(state.files.check)
    except Exception as error:  # noqa: BLE001 - any failure: the file store is away
        log.warning("The file store does not answer.", action="readyz", reason=str(error)[:200])
        if outages.is_full(error) or outages.is_full(error.__cause__ or error):
            return Diagnosis(Outage.FULL, "the disk of the file store is full")
        return Diagnosis(Outage.AWAY, "the file store does not answer; see the log")
    return None


@routes.get(
    "/metrics",
    None,
    prefixes=_ROOT,
    answers=[
        Answer(200, "Metrics for Prometheus.", {"type": "string"}, "text/plain"),
        Answer(200, "The same as OpenMetrics.", {"type": "string"}, "application/openmetrics-text"),
    ],
    errors=(401, 503),
)
async def prometheus(call: Call) -> Response:
    """Report metrics for Prometheus. Nothing names an organisation.

    They are OpenMetrics where `Accept` asks for it. Where RUNYARD_METRICS_TOKEN is set, send that as a bearer token.
    """
    state = call.state
    _check_collector(call)
    encode, content_type = choose_encoder(call.headers.get("accept", ""))
    metrics.CLOCK_OFFSET.set(state.db.clock.offset_s)
    if state.installation.due:
        state.installation.keep(await state.reader.one(state.installation.read))
    return Response(await state.in_thread(encode, state.registry), media_type=content_type)


def _check_collector(call: Call) -> None:
    if not server.allows(call.state.settings.metrics_token, call.headers.get("authorization", "")):
        raise Unauthorized(
            "Send the metrics token of this installation: Authorization: Bearer <token>.",
            code="missing_credentials",
        )
