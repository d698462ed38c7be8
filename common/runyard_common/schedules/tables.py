"""Time: schedules and the fires they made."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from runyard_common.database import columns as c


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


class Schedule(SQLModel, table=True):
    """When an agent runs by itself."""

    __tablename__ = "schedules"
    __table_args__ = (
        Index("ix_schedules_due", "wake_at", **_where("wake_at IS NOT NULL")),
        Index("ix_schedules_org", "org_id", "id"),
        Index("ix_schedules_live", "org_id", **_where("finished_at IS NULL")),
        Index("ix_schedules_finished", "finished_at", **_where("finished_at IS NOT NULL")),
        Index("ix_schedules_agent", "agent_id"),
    )

    id: str = c.key()
    org_id: str = c.ref()
    agent_id: str = c.ref()
    name: str | None = c.text(nullable=True, length=200)
    front: str = c.text(length=16)
    external_id: str | None = c.ref(nullable=True)
    kind: str = c.text(length=8)  # cron, date, delay
    spec: Any = c.json()  # the schedule as `rules.schedule` writes it
    timezone: str = c.text(length=64)
    run: Any = c.json()  # the stored run request: message, args, options, version rule, session rule
    secrets: bytes | None = c.blob()  # encrypted options
    enabled: bool = Field(default=True)  # false while paused, and once finished
    paused_reason: str | None = c.text(nullable=True)
    overlap: str = c.text(length=16)
    catch_up: str = c.text(length=16)
    catch_up_window_s: float = Field(default=0.0)
    jitter_s: float = Field(default=0.0)
    end_at: float | None = c.instant(nullable=True)
    max_fires: int | None = Field(default=None)
    fired: int = c.integer()
    pause_after_failures: int | None = Field(default=None)
    failures: int = c.integer()
    last_due_at: float | None = c.instant(nullable=True)  # the newest due time handled
    next_due_at: float | None = c.instant(nullable=True)  # the first one not handled; null unless enabled
    wake_at: float | None = c.instant(nullable=True)  # when that is released (its jitter added)
    last_task_id: str | None = c.ref(nullable=True)
    created_by: str | None = c.ref(nullable=True)
    key_id: str | None = c.ref(nullable=True)
    end_user_id: str | None = c.ref(nullable=True)
    meta: Any = c.json()
    created_at: float = c.instant()
    updated_at: float = c.instant()
    finished_at: float | None = c.instant(nullable=True)  # it will never be due again


class Fire(SQLModel, table=True):
    """One due time of one schedule: the row exists once, so it fired once."""

    __tablename__ = "fires"
    __table_args__ = (
        Index("ix_fires_open", "schedule_id", **_where("outcome = 'fired'")),
        Index("ix_fires_task", "task_id", **_where("task_id IS NOT NULL")),
        Index("ix_fires_idle", "fired_at", **_where("task_id IS NULL")),
    )

    schedule_id: str = c.key()
    due_at: float = Field(primary_key=True)
    outcome: str = c.text(
        length=16
    )  # fired (its run has not ended), completed, failed, stopped, skipped, missed
    task_id: str | None = c.ref(nullable=True)
    reason: str | None = c.text(nullable=True)
    fired_at: float = c.instant()
