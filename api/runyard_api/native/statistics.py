"""Statistics: runs, waits, failures, tokens, cost and the queue over time, from sums that the scheduler keeps."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Parameters, instant_of, moment, when
from runyard_api.native.ops import is_operator
from runyard_common.statistics import rules
from runyard_common.statistics.queries import samples, sums
from runyard_common.statistics.rules import DAY, HOUR, MINUTE, Sums
from runyard_common.values.errors import Forbidden, InvalidRequest
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("statistics")
#: Points of a series at most; without a `step` it has about as many as a chart can show.
MOST_POINTS: Final = 1_500
_SHOWN: Final = 200
_NICE: Final = (MINUTE, 300, 600, 1_800, HOUR, 6 * HOUR, DAY, 7 * DAY)
#: Agents, keys, end users, models or organisations that have a series of their own in an answer.
_CHARTED: Final = 10


class SpanParameters(Parameters):
    """Which time, and in how long steps."""

    since: str | None = moment("RFC 3339, inclusive; by default 24 hours before `until`.")
    until: str | None = moment("RFC 3339, exclusive; by default now.")
    step: int | None = Field(
        None,
        ge=MINUTE,
        le=366 * DAY,
        multiple_of=MINUTE,
        description="Seconds of one step, whole minutes; by default one that gives at most 200 steps. Minutes are "
        "kept 2 days, ten minutes 15 days, hours 100 days, days 800 days.",
    )
    scope: Literal["organisation", "installation"] = Field(
        "organisation", description="`installation`: all organisations; for the operator only."
    )


class RunParameters(SpanParameters):
    """Which time, and what it is broken down by."""

    by: Literal["agent", "model", "key", "end_user", "organisation"] | None = Field(
        None,
        description="Adds `groups`. Of an installation: model or organisation; of an organisation: the others.",
    )
    limit: int = Field(20, ge=1, le=500, description="Groups at most, the costliest first.")


class Quantiles(schemas.Shape):
    """How long something took, in seconds, within 9.1 %."""

    count: int
    p50: float | None
    p95: float | None


class RunSums(schemas.Shape):
    """What runs did in a span of time."""

    submitted: int
    completed: int
    failed: int
    stopped: int
    turns: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int = Field(description="Of the input tokens, those the provider had cached.")
    cost: float = Field(description="In USD, by the prices in force at each turn.")


class RunTotal(RunSums):
    """Sums with durations. Runs that ended in the span are counted, whenever they began."""

    wait: Quantiles = Field(description="From submission to the first start.")
    run: Quantiles = Field(
        description="From the first start to the end, what it waited for in between included."
    )


class RunPoint(RunTotal):
    """A step of a series."""

    at: str = Field(description="Beginning of the step.")


class FailureCount(schemas.Shape):
    """Runs that failed for one reason."""

    cause: str
    code: str
    count: int


class GroupPoint(RunSums):
    """A step of a group's series."""

    at: str


class RunGroup(schemas.Shape):
    """One agent, model, key, end user or organisation. Groups beyond the tenth have no series."""

    id: str | None = Field(description="null: others, of which a minute had too many to keep each.")
    name: str | None
    total: RunSums
    series: list[GroupPoint] | None


class RunStatistics(schemas.Shape):
    """What runs did over time."""

    since: str
    until: str
    step: int
    scope: str
    counted_at: str | None = Field(description="When the sums last changed; null: nothing was summed yet.")
    balance: float | None = Field(
        description="USD left of what the organisation has paid in advance; null: none is asked for."
    )
    total: RunTotal
    failures: list[FailureCount] = Field(description="The most frequent first.")
    series: list[RunPoint]
    groups: list[RunGroup] | None


@dataclass(frozen=True, slots=True)
class _Span:
    """`since` and `until` are multiples of `step`, in epoch seconds; sums of `base` seconds are read."""

    since: int
    until: int
    step: int
    base: int
    org_id: str
    scope: str

    def steps(self) -> range:
        return range(self.since, self.until, self.step)

    def start(self, at: int) -> int:
        """Beginning of the step of an epoch second."""
        return at - at % self.step

    def document(self) -> JsonObject:
        return {
            "since": when(float(self.since)),
            "until": when(float(self.until)),
            "step": self.step,
            "scope": self.scope,
        }


def _span(call: Call, given: SpanParameters) -> _Span:
    now = call.state.now()
    end = instant_of(given.until, "until") if given.until is not None else now
    begin = instant_of(given.since, "since") if given.since is not None else end - DAY
    if not 0 <= begin < end:
        raise InvalidRequest("since: write an instant before `until`.", code="invalid_field", field="since")
    step = given.step or _chosen(begin, end, now)
    if (end - begin) / step > MOST_POINTS:
        raise InvalidRequest(
            f"step: these are more than {MOST_POINTS} steps; write a longer one.",
            code="invalid_field",
            field="step",
        )
    base = rules.base_step(step)
    if given.step is not None and begin < now - rules.KEPT[base] - step:
        raise InvalidRequest(
            f"step: sums of {base} s are kept {rules.KEPT[base] / DAY:g} days; write a longer step.",
            code="invalid_field",
            field="step",
        )
    if given.scope == "installation" and not is_operator(call, call.principal):
        raise Forbidden("The sums of all organisations are the operator's.", code="operator_only")
    org_id = sums.INSTALLATION if given.scope == "installation" else call.org_id
    since, until = int(begin) - int(begin) % step, int(end) + -int(end) % step
    return _Span(since, max(until, since + step), step, base, org_id, given.scope)


def _chosen(begin: float, end: float, now: float) -> int:
    """The shortest step that a chart can show, and whose sums are still kept."""
    kept = (one for one in _NICE if now - begin <= rules.KEPT[rules.base_step(one)])
    return next((one for one in kept if (end - begin) / one <= _SHOWN), 30 * DAY)


@routes.get(
    "/statistics/runs",
    "usage:read",
    query=RunParameters,
    answers=[Answer(200, "The sums.", RunStatistics)],
)
async def run_statistics(call: Call) -> Response:
    """Report what runs did over time: how many, how long they waited and ran, why they failed, tokens and cost.

    The scheduler sums them up every ten seconds; nothing is counted at the call.
    """
    given = call.query(RunParameters)
    span = _span(call, given)
    if given.by is not None and (given.by == "organisation") > (given.scope == "installation"):
        raise Forbidden("The sums by organisation are the operator's.", code="operator_only")
    if given.scope == "installation" and given.by not in (None, "organisation", "model"):
        raise InvalidRequest(
            "by: of an installation there are sums by organisation and model.",
            code="invalid_field",
            field="by",
        )
    return reply(await call.state.reader.one(lambda conn: _runs(conn, span, given.by, given.limit)))


def _runs(conn: Connection, span: _Span, by: str | None, limit: int) -> JsonObject:
    found = sums.series(conn, span.org_id, span.base, span.since, span.until)
    total = rules.added(found.values())
    failures = rules.parts(total, rules.FAILURE)
    progress, balance = sums.progress(conn), sums.balance(conn, span.org_id)
    return span.document() | {
        "counted_at": when(progress.at) if progress else None,
        "balance": None if balance is None else balance / 1_000_000,
        "total": _total(total),
        "failures": [
            dict(zip(("cause", "code"), name.split("/", 1), strict=True)) | {"count": count}
            for name, count in sorted(failures.items(), key=lambda one: (-one[1], one[0]))
        ],
        "series": [{"at": when(float(at))} | _total(of) for at, of in _by_step(span, found)],
        "groups": None if by is None else _groups(conn, span, by, limit),
    }


def _by_step(span: _Span, found: dict[int, Sums]) -> list[tuple[int, Sums]]:
    summed: dict[int, Sums] = defaultdict(Counter)
    for at, of in found.items():
        summed[span.start(at)].update(of)
    return [(at, summed[at]) for at in span.steps()]


def _groups(conn: Connection, span: _Span, by: str, limit: int) -> list[JsonObject]:
    found = sums.groups(conn, span.org_id, by, span.base, span.since, span.until, limit)
    names = [group.id for group in found[:_CHARTED]]
    series = sums.group_series(conn, span.org_id, by, names, span.base, span.since, span.until)
    return [
        {
            "id": None if group.id == rules.OTHERS else group.id,
            "name": group.name,
            "total": _sums(group.sums),
            "series": [{"at": when(float(at))} | _sums(of) for at, of in _by_step(span, series[group.id])]
            if group.id in series
            else None,
        }
        for group in found
    ]


def _sums(of: Sums) -> JsonObject:
    counts: JsonObject = {name: of[name] for name in (*rules.RUNS, *rules.TURNS[:-1])}
    return counts | {"cost": of["cost_micros"] / 1_000_000}


def _total(of: Sums) -> JsonObject:
    return _sums(of) | {name: _quantiles(rules.buckets_of(of, name)) for name in (rules.WAIT, rules.RUN)}


def _quantiles(buckets: dict[int, int]) -> JsonObject:
    found = {f"p{share}": rules.quantile(buckets, share / 100) for share in (50, 95)}
    return {"count": sum(buckets.values())} | {
        name: None if value is None else float(f"{value:.3g}") for name, value in found.items()
    }


class QueueDepth(schemas.Shape):
    """How many there were at the samples of a step."""

    mean: float
    peak: int


class QueuePoint(schemas.Shape):
    """A step: each status, blocker or organisation that had something, by name."""

    at: str
    samples: int = Field(description="0: no scheduler took one.")
    statuses: dict[str, QueueDepth]
    blockers: dict[str, QueueDepth] = Field(
        description="Queued runs by the limit, or the wait, that keeps them."
    )
    organisations: dict[str, QueueDepth] | None = Field(
        description="Waiting runs (pending and queued) of the ten with the most; the operator's."
    )
    workers: dict[str, QueueDepth] | None = Field(
        description="`alive`, `draining`, `capacity`, `running`; the operator's."
    )


class QueueStatistics(schemas.Shape):
    """How much work waited over time. The scheduler takes a sample a minute."""

    since: str
    until: str
    step: int
    scope: str
    organisations: dict[str, str] | None = Field(description="Names by id; the operator's.")
    series: list[QueuePoint]


@routes.get(
    "/statistics/queue",
    "usage:read",
    query=SpanParameters,
    answers=[Answer(200, "The samples.", QueueStatistics)],
)
async def queue_statistics(call: Call) -> Response:
    """Report how much work waited over time, by status, by limit and by organisation, and the workers there were."""
    given = call.query(SpanParameters)
    span = _span(call, given)
    operator = is_operator(call, call.principal)
    return reply(await call.state.reader.one(lambda conn: _queue(conn, span, operator)))


def _queue(conn: Connection, span: _Span, operator: bool) -> JsonObject:
    times = (span.base, span.since, span.until)
    found = samples.series(conn, span.org_id, ("status", "blocker"), *times)
    others = samples.series(conn, sums.INSTALLATION, ("workers", "samples"), *times)
    sampled: Counter[int] = Counter()
    for one in others:
        if one.kind == "samples":
            sampled[span.start(one.at)] += one.total
    whole = operator and span.scope == "installation"
    waiting, names = samples.organisations(conn, *times) if whole else ([], None)
    kinds = {"statuses": ("status", found), "blockers": ("blocker", found)}
    if operator:
        kinds["workers"] = ("workers", others)
    if whole:
        kinds["organisations"] = ("organisation", waiting)
    depths = {field: _depths(span, kind, rows, sampled) for field, (kind, rows) in kinds.items()}
    empty: JsonObject = {"organisations": None, "workers": None}
    series = [
        {"at": when(float(at)), "samples": sampled[at]}
        | empty
        | {field: of[at] for field, of in depths.items()}
        for at in span.steps()
    ]
    return span.document() | {"organisations": names, "series": series}


def _depths(
    span: _Span, kind: str, rows: list[samples.Sampled], sampled: Counter[int]
) -> dict[int, dict[str, JsonObject]]:
    summed: dict[tuple[int, str], list[int]] = {}
    for row in rows:
        if row.kind == kind:
            place = summed.setdefault((span.start(row.at), row.name), [0, 0])
            place[0] += row.total
            place[1] = max(place[1], row.peak)
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for (at, name), (total, peak) in sorted(summed.items()):
        found[at][name] = {"mean": round(total / max(1, sampled[at]), 2), "peak": peak}
    return found
