"""One attempt: prepare the request, send it, judge what came back. Each stage takes the one before's value."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import structlog

from runyard_common.outbound import GuardedClient, OutboundError, Timeouts, check_headers
from runyard_common.values.errors import RunyardError
from runyard_common.webhooks.queries.delivery_queue import Outgoing, Settled
from runyard_common.webhooks.rules.delivery import (
    Dead,
    Delivered,
    DisableEndpoint,
    RetryAt,
    RetrySchedule,
    decide,
    parse_retry_after,
)
from runyard_common.webhooks.rules.signing import sign
from runyard_workers.webhooks import spans
from runyard_workers.webhooks.keys import Keys

logger = structlog.get_logger("runyard.deliveries")

#: How much of an answer is kept, in bytes.
KEPT: Final = 1024
USER_AGENT: Final = "Runyard-Webhooks/1"
_HIDDEN: Final = "********"
_SHORTEST_SECRET: Final = 6
#: Answers by which a receiver asks for a pause.
_BACK_OFF: Final = (429, 503)


@dataclass(frozen=True, slots=True)
class Request:
    """What goes out. `hidden` are the values that must not be logged, even where a receiver repeats them."""

    headers: dict[str, str]
    content: bytes
    hidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: a status, or the code of an error and its text. `backoff_s`: the receiver wants no calls."""

    status: int | None = None
    error: str | None = None
    message: str = ""
    retry_after: str | None = None
    answer: str | None = None
    seconds: float = 0.0
    backoff_s: float = 0.0


def prepare(keys: Keys, sent: Outgoing, now: float) -> Request:
    """Sign and address one attempt; `RunyardError` when a seal or a secret cannot be read."""
    given = keys.open_headers(sent.headers)
    check_headers(given)
    secrets = [keys.open_secret(sealed) for sealed in (sent.secret, sent.old_secret) if sealed is not None]
    content = sent.body.encode()
    signed = sign(secrets, sent.event_id, content, now=now, attempt=sent.attempt)
    ours = {"content-type": "application/json", "user-agent": USER_AGENT}
    lower = {name.lower(): value for name, value in given.items()}
    return Request(ours | spans.headers() | lower | signed, content, (*given.values(), *secrets))


async def send(
    client: GuardedClient, keys: Keys, sent: Outgoing, timeouts: Timeouts, clock: Callable[[], float]
) -> Outcome:
    """Make the call, signed at the time of `clock` (epoch seconds).

    Never raises but for cancellation: every failure is an outcome.
    """
    started = time.monotonic()
    try:
        request = prepare(keys, sent, clock())
        answer = await client.send(
            "POST", sent.url, headers=request.headers, content=request.content, keep=KEPT, timeouts=timeouts
        )
    except OutboundError as failure:
        return Outcome(error=failure.code, message=failure.message, seconds=time.monotonic() - started)
    except RunyardError as failure:
        return Outcome(error=failure.code, message=failure.message)
    except Exception as failure:  # noqa: BLE001 - tried again like any failure, and logged for the operator
        # No traceback: on a terminal it would show the secrets of this frame.
        logger.error(
            "A delivery failed inside", action="deliver", delivery=sent.id, kind=type(failure).__name__
        )
        return Outcome(error="internal_error", message=type(failure).__name__)
    retry_after = answer.headers.get("retry-after")
    backoff = parse_retry_after(retry_after, clock()) if answer.status in _BACK_OFF else 0.0
    shown = _shown(answer.body, request.hidden)
    return Outcome(answer.status, None, "", retry_after, shown, answer.elapsed, backoff)


def judge(
    sent: Outgoing, outcome: Outcome, owner: str, schedule: RetrySchedule, rng: Random, now: float
) -> Settled:
    """What is to be recorded of an attempt, and whether there will be another."""
    decision = decide(
        schedule,
        status=outcome.status,
        error=outcome.error,
        attempt=sent.attempt,
        retry_after=outcome.retry_after,
        now=now,
        rng=rng,
    )
    known: dict[str, Any] = {
        "status_code": outcome.status,
        "latency_ms": round(outcome.seconds * 1000),
        "answer": outcome.answer,
    }
    match decision:
        case Delivered():
            return Settled(sent, owner, "success", **known)
        case RetryAt(at=at):
            return Settled(sent, owner, "pending", delay_s=at - now, error=_why(outcome), **known)
        case Dead():
            return Settled(sent, owner, "dead", error=_why(outcome), **known)
        case DisableEndpoint():
            return Settled(sent, owner, "dead", error=_why(outcome), disable="gone", **known)


def _why(outcome: Outcome) -> str:
    if outcome.error is None:
        return f"http_{outcome.status}"
    return f"{outcome.error}: {outcome.message}" if outcome.message else outcome.error


def _shown(body: bytes, hidden: tuple[str, ...]) -> str | None:
    """The first bytes of an answer as text, without the secrets that a receiver may have repeated."""
    text = body[:KEPT].decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    parts = {part for value in hidden for part in (value, *value.split()) if len(part) >= _SHORTEST_SECRET}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, _HIDDEN)
    return text or None
