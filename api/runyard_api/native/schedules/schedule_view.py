"""Schedules, their due times and their history as the native API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from runyard_api.access.auth import Principal, options_for
from runyard_api.http.paths import under
from runyard_api.native import schemas
from runyard_api.native.front import BASE, when
from runyard_api.native.runs.task_view import brief
from runyard_common.runs.rules.specs import ScheduleRef
from runyard_common.runs.rules.tasks import Task
from runyard_common.schedules.queries.fires import FireRow
from runyard_common.schedules.rules.preview import PreviewEntry
from runyard_common.schedules.rules.schedule import CronSchedule
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.schedules.rules.timezones import wall_at, zone_named
from runyard_common.schedules.service.backfills import MadeRuns
from runyard_common.values.json_text import JsonObject


class ScheduleView(schemas.Shape):
    """A schedule."""

    id: str
    name: str | None
    state: Literal["active", "paused", "finished"]
    paused_reason: str | None
    kind: Literal["cron", "date", "delay"]
    schedule: str | float = Field(description="As it was written.")
    timezone: str
    agent: str
    agent_id: str
    run: dict[str, Any] = Field(description="The run request it makes; credentials are not shown.")
    overlap: str
    catch_up: str
    catch_up_window_s: float
    jitter_s: float
    end_at: str | None
    max_fires: int | None
    fired: int
    pause_after_failures: int | None
    failures: int = Field(description="Failed runs in a row.")
    last_due_at: str | None
    next_due_at: str | None
    next_run_at: str | None = Field(description="The next due time with its jitter.")
    last_task_id: str | None
    front: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    finished_at: str | None
    links: dict[str, str]


class ScheduledTask(schemas.Shape):
    """A schedule that was asked for as a task."""

    task_id: str
    schedule_id: str
    status: Literal["pending"]
    message: str
    schedule: ScheduleView
    created_at: str
    updated_at: str


def schedule_json(schedule: StoredSchedule, who: Principal) -> dict[str, Any]:
    """A schedule as the native API shows it to `who`."""
    spec = schedule.spec
    written = spec.get("expression") or spec.get("text") or spec.get("seconds")
    return {
        "id": schedule.id,
        "name": schedule.name,
        "state": schedule.state.value,
        "paused_reason": schedule.paused_reason,
        "kind": schedule.kind,
        "schedule": written,
        "timezone": schedule.timezone,
        "agent": schedule.run["agent"],
        "agent_id": schedule.agent_id,
        "run": options_for(who, schedule.run["request"], "schedules:write"),
        "overlap": schedule.overlap.value,
        "catch_up": schedule.catch_up.value,
        "catch_up_window_s": schedule.catch_up_window_s,
        "jitter_s": schedule.jitter_s,
        "end_at": when(schedule.end_at),
        "max_fires": schedule.max_fires,
        "fired": schedule.fired,
        "pause_after_failures": schedule.pause_after_failures,
        "failures": schedule.failures,
        "last_due_at": when(schedule.last_due_at),
        "next_due_at": when(schedule.next_due_at),
        "next_run_at": when(schedule.wake_at),
        "last_task_id": schedule.last_task_id,
        "front": schedule.front,
        "metadata": schedule.meta or {},
        "created_at": when(schedule.created_at),
        "updated_at": when(schedule.updated_at),
        "finished_at": when(schedule.finished_at),
        "links": schedule_links(schedule.id),
    }


def schedule_brief(schedule: ScheduleRef) -> dict[str, Any]:
    """A schedule as the answer to the run that brought it names it."""
    at = when(schedule.next_due_at)
    return {"id": schedule.id, "kind": schedule.kind, "next_at": at, "links": schedule_links(schedule.id)}


def schedule_links(schedule_id: str) -> dict[str, str]:
    base = under(f"{BASE}/schedules/{schedule_id}")
    return {"self": base} | {
        name: f"{base}/{name}" for name in ("preview", "fires", "pause", "resume", "trigger", "backfill")
    }


class DueTime(schemas.Shape):
    """A due time."""

    at: str
    local: str = Field(description="On the schedule's clocks, with their offset.")
    note: str | None = Field(description="How a shift of the clocks touches it.")


class Upcoming(schemas.Shape):
    """Due times to come."""

    data: list[DueTime]


def upcoming_json(times: Sequence[PreviewEntry]) -> dict[str, Any]:
    return {"data": [entry.to_json() | {"at": when(entry.at)} for entry in times]}


class MadeUp(DueTime):
    """A due time that is made up for."""

    task_id: str | None = Field(description="Its run; null in a dry run.")


class BackfillView(schemas.Shape):
    """The due times without a run, oldest first, and their runs."""

    schedule_id: str
    dry_run: bool
    data: list[MadeUp]
    next_since: str | None = Field(
        description="The `since` that goes on with the rest of the range; null: that is all."
    )


def backfill_json(made: MadeRuns) -> dict[str, Any]:
    schedule = made.schedule
    zone = schedule.times.zone if isinstance(schedule.times, CronSchedule) else zone_named("UTC")
    return {
        "schedule_id": schedule.id,
        "dry_run": made.dry_run,
        "data": [
            {"at": when(at), "local": wall_at(at, zone).isoformat(), "note": None, "task_id": task_id}
            for at, task_id in made.runs
        ],
        "next_since": when(made.next_since),
    }


class FireView(schemas.Shape):
    """What a due time came to."""

    due_at: str
    outcome: Literal["fired", "completed", "failed", "stopped", "skipped", "missed", "backfilled"]
    reason: str | None
    fired_at: str
    task_id: str | None
    task: schemas.TaskBrief | None = Field(description="As long as it is kept.")


class SchedulePage(schemas.Page):
    """A page of schedules, newest first."""

    data: list[ScheduleView]  # type: ignore[assignment]


class FirePage(schemas.Page):
    """A page of a schedule's history, latest due time first."""

    data: list[FireView]  # type: ignore[assignment]


def fire_json(row: FireRow, task: Task | None) -> JsonObject:
    return {
        "due_at": when(row.due_at),
        "outcome": row.outcome,
        "reason": row.reason,
        "fired_at": when(row.fired_at),
        "task_id": row.task_id,
        "task": brief(task) if task is not None else None,
    }
