"""A schedule that is asked for: what it runs, when, and how its times are treated, judged before it is kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from runyard_common.runs.rules.run_request import Knowledge
from runyard_common.schedules.rules.catchup import CatchUp, default_window_s
from runyard_common.schedules.rules.policies import Jitter, Lifetime, Overlap
from runyard_common.schedules.rules.schedule import Schedule
from runyard_common.schedules.rules.schedule_text import parse_schedule, read_date
from runyard_common.schedules.rules.timezones import zone_named
from runyard_common.values.errors import ScheduleError
from runyard_common.values.ids import uuid7

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
    """What a schedule runs: a run request whose credentials are sealed separately."""

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
    """A schedule to be stored. `most` is how many its organisation may have, unless its settings differ."""

    wanted: Wanted
    run: StoredRun
    most: int
    external_id: str | None = None
    id: str = field(default_factory=uuid7)
    tools: tuple[str, ...] = ()  # what its run wants that is to be looked up: see `RunSpec`
    knowledge: Knowledge | None = None


@dataclass(frozen=True, slots=True)
class Policies:
    """What is wanted besides the times."""

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
    """Read what is wanted at `now` (epoch seconds). Errors: `ScheduleError`, its `field` names where."""
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


def placed(due: float | None, jitter: Jitter) -> dict[str, Any]:
    """The columns of when a schedule is due next; None: it is paused."""
    return {
        "enabled": due is not None,
        "paused_reason": None if due is not None else "paused when it was made",
        "next_due_at": due,
        "wake_at": None if due is None else jitter.release_at(due),
        "finished_at": None,
    }
