"""A schedule as it is kept: its times, its policies, and how far it has come. Instants are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runyard_common.schedules.rules.catchup import CatchUp, DueFires, due_fires
from runyard_common.schedules.rules.policies import Jitter, Lifetime, Overlap
from runyard_common.schedules.rules.schedule import Schedule, schedule_from_json
from runyard_common.values.json_text import JsonObject


class ScheduleState(StrEnum):
    """The state of a schedule."""

    ACTIVE = "active"  # it has a next due time
    PAUSED = "paused"  # by a person, or after failures in a row; resuming goes on from then
    FINISHED = "finished"  # it will never be due again


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A row of the schedules table. `run` is ``{"request", "agent", "session_scope"}``."""

    id: str
    org_id: str
    agent_id: str
    name: str | None
    front: str
    external_id: str | None
    kind: str
    spec: JsonObject
    timezone: str
    run: JsonObject
    secrets: bytes | None
    enabled: bool
    paused_reason: str | None
    overlap: Overlap
    catch_up: CatchUp
    catch_up_window_s: float
    jitter_s: float
    end_at: float | None
    max_fires: int | None
    fired: int
    pause_after_failures: int | None
    failures: int
    last_due_at: float | None
    next_due_at: float | None
    wake_at: float | None
    last_task_id: str | None
    created_by: str | None
    key_id: str | None
    end_user_id: str | None
    meta: JsonObject | None
    created_at: float
    updated_at: float
    finished_at: float | None

    @property
    def state(self) -> ScheduleState:
        """Active, paused or finished."""
        if self.finished_at is not None:
            return ScheduleState.FINISHED
        return ScheduleState.ACTIVE if self.enabled else ScheduleState.PAUSED

    @property
    def times(self) -> Schedule:
        """When it is due; `ScheduleError` for a row that this code cannot read."""
        return schedule_from_json(self.spec)

    @property
    def lifetime(self) -> Lifetime:
        """How long it goes on."""
        return Lifetime(self.end_at, self.max_fires, self.pause_after_failures)

    @property
    def jitter(self) -> Jitter:
        """How far its runs are released after their due times."""
        return Jitter(self.id, self.jitter_s)

    def due(self, now: float, limit: int) -> DueFires:
        """What to fire at `now`, at most `limit` due times."""
        return due_fires(
            self.times,
            self.last_due_at,
            now,
            self.catch_up_window_s,
            self.catch_up,
            limit,
            since=self.created_at,
            lifetime=self.lifetime,
            fired=self.fired,
            jitter=self.jitter,
        )

    def first_after(self, handled: float | None, fired: int) -> float | None:
        """The first due time later than `handled` (None: of all), or None once it has ended."""
        if self.lifetime.remaining(fired) == 0:
            return None
        times = self.times
        due = times.first_due(self.created_at) if handled is None else times.next_after(handled)
        return due if due is not None and self.lifetime.allows(due) else None
