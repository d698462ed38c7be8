"""What the points of a process do once its metrics are wanted: they count in the families."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from prometheus_client import Counter, Histogram

from runyard_common.database.start_checks import Process
from runyard_common.database.transaction import CommittedEvent
from runyard_common.metrics import exemplars, families
from runyard_common.metrics.points import POINTS
from runyard_common.runs.rules.lifecycle import Cause, Event, Outcome
from runyard_common.runs.rules.suspicion import Loss

#: Models with series of their own; the turns of further ones are counted as `OTHER`.
MOST_MODELS: Final = 50
OTHER: Final = "other"
#: Between two looks at how late the event loop is, in seconds.
LOOK_EVERY: Final = 1.0
#: Deliveries by the state they are left in.
_OUTCOMES: Final = {"success": "success", "pending": "retry", "dead": "dead"}
_GOT: Final = ("all", "some", "none")


def begin(process: Process) -> None:
    """Count in this process from now on."""
    points = POINTS
    points.events, points.passed_on, points.group_commit = events, passed_on, group_commit
    if process is Process.WORKER:
        points.claimed, points.claim, points.attempt = claimed, claim, attempt
        points.lease_lost, points.delivered = families.LEASES_LOST.inc, delivered
    if process is Process.SCHEDULER:
        points.occurrence, points.duty, points.workers_lost = occurrence, duty, families.WORKERS_LOST.inc


def end() -> None:
    """Count no more: for tests, which share a process."""
    vars(POINTS).clear()


async def watch_loop() -> None:
    """Look at how late the running loop is, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK_EVERY
        await asyncio.sleep(LOOK_EVERY)
        families.LOOP_LAG.observe(max(0.0, loop.time() - due))


# -- events of runs ----------------------------------------------------------------------------------------


def _children(counter: Counter, values: Iterable[str]) -> dict[str, Counter]:
    """A counter's series by the value of its label, each begun at 0 so that its first increase is seen."""
    return {str(value): counter.labels(str(value)) for value in values}


_EVENTS: Final = _children(families.EVENTS, Event)
_FAILURES: Final = _children(families.FAILURES, Cause)
_RETRIES: Final = _children(families.RETRIES, Cause)
_RESCUES: Final = _children(families.RESCUES, Loss)


def events(committed: Sequence[CommittedEvent]) -> None:
    """Count what was committed: changes of status, their causes, and model turns."""
    for event in committed:
        if (note := _NOTES.get(event.type)) is not None:
            note(event.data)


def passed_on(found: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Count the events of a child process."""
    for type_, data in found:
        if (note := _NOTES.get(type_)) is not None:
            note(data)


def _plain(event: Event) -> Callable[[dict[str, Any]], None]:
    child = _EVENTS[event]

    def note(data: dict[str, Any]) -> None:
        child.inc()

    return note


def _caused(event: Event, by_cause: dict[str, Counter]) -> Callable[[dict[str, Any]], None]:
    child, otherwise = _EVENTS[event], by_cause[Cause.INFRASTRUCTURE]

    def note(data: dict[str, Any]) -> None:
        child.inc()
        error = data.get("error")
        cause = error.get("cause") if isinstance(error, dict) else _DEFAULT.get(event)
        by_cause.get(str(cause), otherwise).inc()

    return note


#: The cause of what carries no error.
_DEFAULT: Final = {Event.EXPIRE: Cause.DEADLINE}


def _rescued(data: dict[str, Any]) -> None:
    _EVENTS[Event.RESCUE].inc()
    _RESCUES.get(str(data.get("loss")), _RESCUES[Loss.SILENT]).inc()


_models: dict[str, tuple[Counter, ...]] = {}
_USED: Final = (("input_tokens", "input"), ("output_tokens", "output"), ("cached_tokens", "cached"))


def _turn(data: dict[str, Any]) -> None:
    model = str(data.get("model"))
    name = model if model in _models or len(_models) < MOST_MODELS else OTHER
    if (counters := _models.get(name)) is None:
        kinds = (families.TOKENS.labels(name, kind) for _, kind in _USED)
        counters = _models[name] = (families.TURNS.labels(name), families.COST.labels(name), *kinds)
    turns, cost, *tokens = counters
    turns.inc()
    cost.inc(max(0, data.get("cost_micros") or 0) / 1_000_000)
    usage = data.get("usage") or {}
    for (field, _), counter in zip(_USED, tokens, strict=True):
        counter.inc(max(0, usage.get(field) or 0))


_NOTES: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    **{event.value: _plain(event) for event in Event},
    Event.FAIL.value: _caused(Event.FAIL, _FAILURES),
    Event.EXPIRE.value: _caused(Event.EXPIRE, _FAILURES),
    Event.RETRY.value: _caused(Event.RETRY, _RETRIES),
    Event.RESCUE.value: _rescued,
    "model_turn": _turn,
}
#: The types of the events that are counted.
COUNTED: Final = frozenset(_NOTES)


# -- the other points --------------------------------------------------------------------------------------


def group_commit(commands: int, seconds: float) -> None:
    """See `Points.group_commit`."""
    families.COMMANDS.observe(commands)
    families.COMMIT_SECONDS.observe(seconds)


_CLAIMS: Final = _children(families.CLAIMS, _GOT)
_ATTEMPTS: Final[dict[str, Histogram]] = {
    name: families.ATTEMPT_SECONDS.labels(name) for name in (*map(str, Outcome), "quarantined", "lost")
}
_DELIVERIES: Final = {
    (to, outcome): families.DELIVERIES.labels(to, outcome)
    for to in ("endpoint", "callback")
    for outcome in _OUTCOMES.values()
}
_CALLS: Final = {outcome: families.DELIVERY_SECONDS.labels(outcome) for outcome in _OUTCOMES.values()}


_OCCURRENCES: Final = _children(families.OCCURRENCES, ("fired", "failed", "skipped", "missed"))


def claim(slots: int, got: int) -> None:
    """See `Points.claim`."""
    _CLAIMS["none" if not got else "all" if got >= slots else "some"].inc()


def claimed(task: Any, pending_s: float, since_submission_s: float) -> None:
    """See `Points.claimed`. Later attempts have waited for more than a worker since the submission."""
    exemplar = exemplars.of(task)
    families.CLAIM_WAIT.observe(max(0.0, pending_s), exemplar)
    if task.attempt == 1:
        families.RUN_WAIT.observe(max(0.0, since_submission_s), exemplar)


def attempt(task: Any, outcome: str, seconds: float) -> None:
    """See `Points.attempt`."""
    _ATTEMPTS.get(outcome, _ATTEMPTS["lost"]).observe(seconds, exemplars.of(task))


def delivered(to_endpoint: bool, state: str, seconds: float | None) -> None:
    """See `Points.delivered`."""
    outcome = _OUTCOMES[state]
    _DELIVERIES["endpoint" if to_endpoint else "callback", outcome].inc()
    if seconds is not None:
        _CALLS[outcome].observe(seconds, exemplars.of())


def occurrence(outcome: str, late_s: float) -> None:
    """See `Points.occurrence`. What was left out is not late."""
    _OCCURRENCES[outcome].inc()
    if outcome == "fired":
        families.LATENESS.observe(max(0.0, late_s))


def duty(name: str, seconds: float, worked: bool) -> None:
    """See `Points.duty`."""
    families.DUTY_SECONDS.labels(name).observe(seconds)
    failures = families.DUTY_FAILURES.labels(name)
    if not worked:
        failures.inc()
