"""What a schedule has to be in order to be kept: judged, counted against its organisation's bound, stored.

`runyard_common.schedules.service.schedules` builds on this for the schedules of their own; a run request that brings some
stores them with its task.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.runs.rules.run_request import OPTIONS, RunRequest
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service.run_options import NONE, Knowledge
from runyard_common.schedules.queries import schedules
from runyard_common.schedules.rules.catchup import CatchUp, default_window_s
from runyard_common.schedules.rules.jitter import Jitter
from runyard_common.schedules.rules.overlap import Overlap
from runyard_common.schedules.rules.schedule import Schedule
from runyard_common.schedules.rules.schedule_error import ScheduleError
from runyard_common.schedules.rules.schedule_lifetime import Lifetime
from runyard_common.schedules.rules.schedule_text import parse_schedule, read_date
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.schedules.rules.timezones import zone_named
from runyard_common.values.errors import Conflict, RunyardError
from runyard_common.values.ids import is_uuid, uuid7

#: The name under which an organisation's settings may give it a bound of its own.
CAP_SETTING: Final = "max_schedules"
LONGEST_WINDOW_S: Final = 36_525 * 86_400.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """When something is to run, as a caller wrote it. `at` names the place of `schedule` in the request."""

    schedule: Any  # seconds, a date, or a cron line
    timezone: str = "UTC"
    name: str | None = None
    overlap: str | None = None  # None: skip, but allow where every missed time is to fire
    catch_up: str | None = None  # None: the newest missed time fires, but a date that has passed is refused
    catch_up_window_s: float | None = None
    jitter_s: float = 0.0
    end_at: str | float | None = None  # ISO 8601 in `timezone`, or epoch seconds
    max_fires: int | None = None
    pause_after_failures: int | None = None
    enabled: bool = True
    meta: dict[str, Any] | None = None
    at: str = "schedule"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """What a schedule runs: a run request whose credentials are sealed apart."""

    org_id: str
    agent_id: str
    agent_name: str
    front: str
    request: dict[str, Any]
    secrets: bytes | None = None
    session_scope: str = ""
    created_by: str | None = None
    key_id: str | None = None
    end_user_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The `run` column."""
        return {"request": self.request, "agent": self.agent_name, "session_scope": self.session_scope}


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to be stored. `most` is how many its organisation may have, unless its settings say else."""

    wanted: Wanted
    run: StoredRun
    most: int
    external_id: str | None = None
    id: str = field(default_factory=uuid7)
    tools: tuple[str, ...] = ()  # what its run wants that is to be looked up: see `runs.Prepared`
    knowledge: Knowledge = NONE


def stored_run(
    request: RunRequest,
    spec: RunSpec,
    session_scope: str = "",
    message: str | None = None,
    version: str | None = None,
) -> StoredRun:
    """What to keep of a judged request (`spec` is what `runs.prepare` made of it) to run it later.

    `message` replaces what it says, `version` the version it names.
    """
    own = request.model_dump(
        mode="json",
        by_alias=True,
        exclude_unset=True,
        exclude_none=True,
        exclude={*OPTIONS, "schedules"} | ({"query", "message"} if message is not None else set()),
    )
    if message is not None:
        own["message"] = message
    if version is not None:
        own["version"] = version
    return StoredRun(
        spec.org_id,
        spec.agent.agent_id,
        spec.agent.name,
        spec.front,
        own | spec.input.get("options", {}),
        spec.secrets,
        session_scope,
        spec.created_by,
        spec.key_id,
        spec.end_user_id,
    )


def pinned_version(named: str, agent: AgentRecord) -> str | None:
    """The version that `named` stands for by itself: a caller who names a version's id means that one."""
    return agent.ref.version if is_uuid(named) and named.lower() == agent.ref.version_id else None


def of_request(
    request: RunRequest, spec: RunSpec, session_scope: str, most: int, now: float
) -> tuple[NewSchedule, ...]:
    """The schedules that a run request brings; each runs the request again with its own message.

    A deadline given as a date is the run's alone. Errors: `ScheduleError`.
    """
    asked = request.schedules
    if not asked:
        return ()
    if isinstance(request.deadline, str):
        request = request.model_copy(update={"deadline": None})
    new = tuple(
        NewSchedule(
            Wanted(one.schedule, catch_up=one.catch_up, at=f"schedules[{index}].schedule"),
            stored_run(request, spec, session_scope, one.message),
            most,
            id=_id_of(spec.task_id, index),
        )
        for index, one in enumerate(asked)
    )
    for one in new:
        judge(one.wanted, now)
    return new


def _id_of(task_id: str, index: int) -> str:
    """An id as old as the task's, and the same whenever the same request is prepared again."""
    mark = int.from_bytes(hashlib.blake2b(f"{task_id}/{index}".encode(), digest_size=8).digest()) >> 2
    return str(uuid.UUID(int=uuid.UUID(task_id).int >> 62 << 62 | mark))


@dataclass(frozen=True, slots=True)
class Policies:
    """What is wanted beside the times."""

    lifetime: Lifetime
    catch_up: CatchUp
    overlap: Overlap
    window_s: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A wanted schedule, read. `first` is when it is due first."""

    times: Schedule
    policies: Policies
    first: float

    @property
    def window_s(self) -> float:
        """How old a missed time may be."""
        window = self.policies.window_s
        return default_window_s(self.times) if window is None else window


def judge(wanted: Wanted, now: float) -> Judged:
    """Read what is wanted at `now` (epoch seconds). Errors: `ScheduleError`, its field telling where."""
    policies = judge_policies(wanted)
    times = parse_schedule(
        wanted.schedule,
        wanted.timezone,
        now=now,
        catch_up=wanted.catch_up is not None and policies.catch_up is not CatchUp.NONE,
        field=wanted.at,
    )
    return Judged(times, policies, due_within(policies.lifetime, times.first_due(now)))


def judge_policies(wanted: Wanted) -> Policies:
    """Read all but the times. Errors: `ScheduleError`."""
    try:
        Jitter("", wanted.jitter_s)
    except ScheduleError as refusal:
        refusal.field = "jitter_s"
        raise
    catch_up = _member(CatchUp, wanted.catch_up or CatchUp.LAST, "catch_up")
    usual = Overlap.ALLOW if catch_up is CatchUp.ALL else Overlap.SKIP
    return Policies(
        lifetime_of(wanted),
        catch_up,
        _member(Overlap, wanted.overlap or usual, "overlap"),
        None if wanted.catch_up_window_s is None else _window(wanted.catch_up_window_s),
    )


def due_within(lifetime: Lifetime, due: float | None) -> float:
    """`due`, or `ScheduleError` ``bad_end`` where the schedule ends before."""
    if due is None or not lifetime.allows(due):
        raise ScheduleError(
            "It would end before it is due for the first time.", code="bad_end", field="end_at"
        )
    return due


def lifetime_of(wanted: Wanted) -> Lifetime:
    """How long it goes on. Errors: `ScheduleError` ``bad_end``, ``bad_count``."""
    end_at = wanted.end_at
    if isinstance(end_at, str):
        try:
            end_at, _ = read_date(end_at, zone_named(wanted.timezone))
        except (ScheduleError, OverflowError) as error:
            message = f"{str(wanted.end_at)[:80]!r} is not an ISO 8601 date or date-time."
            raise ScheduleError(message, code="bad_end", field="end_at") from error
    return Lifetime(end_at, wanted.max_fires, wanted.pause_after_failures)


def _window(seconds: float) -> float:
    if not 0 <= seconds <= LONGEST_WINDOW_S:
        raise ScheduleError(
            "catch_up_window_s is a number of seconds from 0 to a hundred years.",
            code="bad_window",
            field="catch_up_window_s",
        )
    return seconds


def _member(kind: Any, text: str, name: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(kind)
        raise ScheduleError(f"{name} is one of: {known}.", code=f"bad_{name}", field=name) from None


def refusals(tx: Tx, asked: Sequence[Sequence[NewSchedule]]) -> dict[int, RunyardError]:
    """Which of these groups of new schedules cannot be stored, by place, and why.

    Errors: `Conflict` too_many_schedules, `ScheduleError`. Exact: an organisation's schedules are counted
    one transaction at a time.
    """
    refused: dict[int, RunyardError] = {}
    orgs = {new.run.org_id: new.most for group in asked for new in group}
    if not orgs:
        return refused
    advisory.lock(tx, [f"schedules|{org_id}" for org_id in orgs])
    caps = {org_id: cap(tx.conn, org_id, most) for org_id, most in orgs.items()}
    counts = Counter({org: schedules.count_live(tx.conn, org, most) for org, most in caps.items()})
    for index, group in enumerate(asked):
        more = Counter(new.run.org_id for new in group)
        try:
            for new in group:
                judge(new.wanted, tx.now)
            for org_id in more:
                if counts[org_id] + more[org_id] > caps[org_id]:
                    raise _too_many(caps[org_id])
        except RunyardError as refusal:
            refused[index] = refusal
        else:
            counts += more
    return refused


def check_room(tx: Tx, org_id: str, default: int) -> None:
    """Whether an organisation may have one more schedule. Error: `Conflict` too_many_schedules."""
    advisory.lock(tx, [f"schedules|{org_id}"])
    most = cap(tx.conn, org_id, default)
    if schedules.count_live(tx.conn, org_id, most) >= most:
        raise _too_many(most)


def cap(conn: Connection, org_id: str, default: int) -> int:
    """How many schedules that may still be due an organisation may have."""
    row = identity.organisation(conn, org_id)
    own = ((row or {}).get("settings") or {}).get(CAP_SETTING)
    return own if isinstance(own, int) and not isinstance(own, bool) and own >= 0 else default


def _too_many(most: int) -> Conflict:
    return Conflict(
        f"The organisation has {most} schedules that are not finished, its bound. Delete some, or have it raised.",
        code="too_many_schedules",
        field="schedule",
        limit=most,
    )


def store(tx: Tx, asked: Sequence[NewSchedule]) -> list[StoredSchedule]:
    """Store schedules that `refusals` has let through."""
    rows = [_row(tx, new) for new in asked]
    schedules.insert_many(tx, rows)
    return [StoredSchedule(**row) for row in rows]


def _row(tx: Tx, new: NewSchedule) -> dict[str, Any]:
    wanted, run = new.wanted, new.run
    judged = judge(wanted, tx.now)
    row: dict[str, Any] = {
        "id": new.id,
        "org_id": run.org_id,
        "agent_id": run.agent_id,
        "name": wanted.name,
        "front": run.front,
        "external_id": new.external_id,
        "kind": judged.times.kind,
        "spec": judged.times.to_json(),
        "timezone": wanted.timezone,
        "run": run.to_json(),
        "secrets": run.secrets,
        "overlap": judged.policies.overlap,
        "catch_up": judged.policies.catch_up,
        "catch_up_window_s": judged.window_s,
        "jitter_s": wanted.jitter_s,
        "end_at": judged.policies.lifetime.end_at,
        "max_fires": wanted.max_fires,
        "fired": 0,
        "pause_after_failures": wanted.pause_after_failures,
        "failures": 0,
        "last_due_at": None,
        "last_task_id": None,
        "created_by": run.created_by,
        "key_id": run.key_id,
        "end_user_id": run.end_user_id,
        "meta": wanted.meta,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    return row | placed(judged.first if wanted.enabled else None, Jitter(new.id, wanted.jitter_s))


def placed(due: float | None, jitter: Jitter) -> dict[str, Any]:
    """The columns that say when a schedule is due next; None: it is paused."""
    return {
        "enabled": due is not None,
        "paused_reason": None if due is not None else "paused when it was made",
        "next_due_at": due,
        "wake_at": None if due is None else jitter.release_at(due),
        "finished_at": None,
    }
