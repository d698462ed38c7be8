"""Every metric: its name, its labels and what it means. Those of a process are what its `/metrics` shows.

No label names a task, an organisation, an agent or a key: each has a bounded set of values, written beside it in
docs/observability.md, which is generated from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from runyard_common.database.start_checks import Process
from runyard_common.runs.rules.lifecycle import Cause, Event, Outcome
from runyard_common.runs.rules.suspicion import Loss

API, WORKER, SCHEDULER = Process.API, Process.WORKER, Process.SCHEDULER
EVERY: Final = (API, WORKER, SCHEDULER)

Metric: TypeAlias = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)

#: Short calls, from a millisecond to a minute.
_CALLS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Runs and their waits, from ten milliseconds to a day.
_RUNS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, the processes that have it, and the values of its labels as the documentation states them."""

    metric: Metric
    processes: tuple[Process, ...]
    values: str = ""


FAMILIES: Final[list[Family]] = []


def _of(processes: tuple[Process, ...], metric: M, values: str = "") -> M:
    FAMILIES.append(Family(metric, processes, values))
    return metric


def _counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    return Counter(name, text, labels, registry=None)


def _gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
    return Gauge(name, text, labels, registry=None)


def _histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=None)


# -- every process -----------------------------------------------------------------------------------------

INFO = _of(EVERY, _gauge("runyard_process_info", "1, with what this process is.", ("process", "version")),
           "api, worker, scheduler; its version")  # fmt: skip
EVENTS = _of(EVERY, _counter("runyard_run_events_total", "Changes of runs' statuses that this process has committed.",
             ("event",)), ", ".join(Event))  # fmt: skip
FAILURES = _of(EVERY, _counter("runyard_run_failures_total", "Runs that have failed, by the class of their error.",
               ("cause",)), ", ".join(Cause))  # fmt: skip
RETRIES = _of(EVERY, _counter("runyard_run_retries_total", "Attempts that failed and are tried again, by the class of "
              "their error.", ("cause",)), ", ".join(Cause))  # fmt: skip
RESCUES = _of(EVERY, _counter("runyard_runs_rescued_total", "Runs that lost their process and were handed on, by how.",
              ("loss",)), ", ".join(Loss))  # fmt: skip
TURNS = _of(EVERY, _counter("runyard_model_turns_total", "Model turns on record.", ("model",)),
            "the first 50 models of the process, then `other`")  # fmt: skip
TOKENS = _of(EVERY, _counter("runyard_model_tokens_total", "Tokens of model turns; cached ones are input, too.",
             ("model", "kind")), "as above; input, output, cached")  # fmt: skip
COST = _of(
    EVERY, _counter("runyard_model_cost_usd_total", "Cost of model turns in USD.", ("model",)), "as above"
)
COMMANDS = _of(EVERY, _histogram("runyard_group_commit_commands", "Commands that shared a transaction.",
               (1, 2, 4, 8, 16, 32, 64, 128, 256)))  # fmt: skip
COMMIT_SECONDS = _of(EVERY, _histogram("runyard_group_commit_seconds", "Time of such a transaction, commit included.",
                     _CALLS))  # fmt: skip
LOOP_LAG = _of(
    (API, WORKER),
    _histogram(
        "runyard_event_loop_lag_seconds",
        "How late the event loop came to a timer, looked at once a second.",
        (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
)

# -- api ---------------------------------------------------------------------------------------------------

REQUESTS = _of((API,), _counter("runyard_http_requests_total", "Requests answered.", ("operation", "method", "status")),
               "the operations of the API, or none; its methods, or other; the status")  # fmt: skip
HTTP_SECONDS = _of((API,), _histogram("runyard_http_seconds", "Time until the answer began.", _CALLS, ("operation",)),
                   "the operations of the API, or none")  # fmt: skip
ACCEPTED = _of((API,), _counter("runyard_runs_accepted_total", "Runs stored by this process."))
STREAMS = _of((API,), _gauge("runyard_streams_open", "Event streams being served."))
WAITERS = _of((API,), _gauge("runyard_waiters_open", "Callers waiting for a run."))
CLOCK_OFFSET = _of((API,), _gauge("runyard_clock_offset_seconds", "By how much the clock of the api's host is ahead of "
                   "the database's."))  # fmt: skip

# -- worker ------------------------------------------------------------------------------------------------

SLOTS = _of((WORKER,), _gauge("runyard_worker_slots", "Runs that this worker may have at once."))
SLOTS_IN_USE = _of(
    (WORKER,), _gauge("runyard_worker_slots_in_use", "Slots that runs, or threads they left, have now.")
)
DRAINING = _of((WORKER,), _gauge("runyard_worker_draining", "1 while it claims no run: an operator drains it, or it "
               "ends."))  # fmt: skip
CLAIMS = _of((WORKER,), _counter("runyard_claims_total", "Looks for work, by what they got: every slot that was free, "
             "some, none.", ("got",)), "all, some, none")  # fmt: skip
CLAIM_WAIT = _of((WORKER,), _histogram("runyard_claim_wait_seconds", "From pending to claimed: what a lack of workers "
                 "costs.", _RUNS))  # fmt: skip
RUN_WAIT = _of((WORKER,), _histogram("runyard_run_wait_seconds", "From submission to the first claim, waits at limits "
               "included.", _RUNS))  # fmt: skip
ATTEMPT_SECONDS = _of((WORKER,), _histogram("runyard_attempt_seconds", "From the claim to the end of an attempt.",
                      _RUNS, ("outcome",)), ", ".join(Outcome) + ", quarantined, lost")  # fmt: skip
LEASES_LOST = _of((WORKER,), _counter("runyard_leases_lost_total", "Times that this worker's lease ran out while it "
                  "lived."))  # fmt: skip
DELIVERIES = _of((WORKER,), _counter("runyard_deliveries_total", "Attempts at webhook deliveries.", ("to", "outcome")),
                 "endpoint, callback; success, retry, dead")  # fmt: skip
DELIVERY_SECONDS = _of((WORKER,), _histogram("runyard_delivery_seconds", "Time of the call.", _CALLS, ("outcome",)),
                       "success, retry, dead")  # fmt: skip

# -- scheduler ---------------------------------------------------------------------------------------------

LATENESS = _of((SCHEDULER,), _histogram("runyard_schedule_lateness_seconds", "From a schedule's due time to its run.",
               (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)))  # fmt: skip
OCCURRENCES = _of((SCHEDULER,), _counter("runyard_schedule_occurrences_total", "Due times of schedules, by what came "
                  "of them.", ("outcome",)), "fired, failed, skipped, missed")  # fmt: skip
DUTY_SECONDS = _of((SCHEDULER,), _histogram("runyard_duty_seconds", "Time of one run of a duty.", _CALLS, ("duty",)),
                   "the duties of the scheduler")  # fmt: skip
DUTY_FAILURES = _of((SCHEDULER,), _counter("runyard_duty_failures_total", "Runs of a duty that failed, and are tried "
                    "again.", ("duty",)), "the duties of the scheduler")  # fmt: skip
WORKERS_LOST = _of((SCHEDULER,), _counter("runyard_workers_lost_total", "Workers whose lease ran out."))


def of(process: Process) -> Iterator[Metric]:
    """The metrics of a process."""
    return (family.metric for family in FAMILIES if process in family.processes)
