"""Time: schedules and the fires they made."""

from __future__ import annotations

from sqlalchemy import Index

from runyard_common.database import columns as c


class Schedule(c.Table):
    """When an agent runs by itself."""

    __tablename__ = "schedules"
    __table_args__ = (
        Index("ix_schedules_due", "wake_at", **c.where("wake_at IS NOT NULL")),
        Index("ix_schedules_org", "org_id", "id"),
        Index("ix_schedules_live", "org_id", **c.where("finished_at IS NULL")),
        Index("ix_schedules_finished", "finished_at", **c.where("finished_at IS NOT NULL")),
        Index("ix_schedules_agent", "agent_id"),
    )

    id = c.key()
    org_id = c.ref()
    agent_id = c.ref()
    name = c.text(nullable=True, length=200)
    front = c.text(length=16)
    external_id = c.ref(nullable=True)
    kind = c.text(length=8)  # cron, date, delay
    spec = c.json()  # the schedule as `rules.schedule` writes it
    timezone = c.text(length=64)
    run = c.json()  # the stored run request: message, args, options, version rule, session rule
    secrets = c.blob()  # encrypted options
    enabled = c.boolean(default=True)  # false while paused, and once finished
    paused_reason = c.text(nullable=True)
    overlap = c.text(length=16)
    catch_up = c.text(length=16)
    catch_up_window_s = c.real(default=0.0)
    jitter_s = c.real(default=0.0)
    end_at = c.instant(nullable=True)
    max_fires = c.integer32(nullable=True)
    fired = c.integer()
    pause_after_failures = c.integer32(nullable=True)
    failures = c.integer()
    last_due_at = c.instant(nullable=True)  # the newest due time handled
    next_due_at = c.instant(nullable=True)  # the first one not handled; null unless enabled
    wake_at = c.instant(nullable=True)  # when that is released (its jitter added)
    last_task_id = c.ref(nullable=True)
    created_by = c.ref(nullable=True)
    key_id = c.ref(nullable=True)
    end_user_id = c.ref(nullable=True)
    meta = c.json()
    created_at = c.instant()
    updated_at = c.instant()
    finished_at = c.instant(nullable=True)  # it will never be due again


class Fire(c.Table):
    """One due time of one schedule: the row exists once, so it fired once."""

    __tablename__ = "fires"
    __table_args__ = (
        Index("ix_fires_open", "schedule_id", **c.where("outcome = 'fired'")),
        Index("ix_fires_task", "task_id", **c.where("task_id IS NOT NULL")),
        Index("ix_fires_idle", "fired_at", **c.where("task_id IS NULL")),
    )

    schedule_id = c.key()
    due_at = c.real(primary_key=True)
    outcome = c.text(
        length=16
    )  # fired (its run has not ended), completed, failed, stopped, skipped, missed, backfilled
    task_id = c.ref(nullable=True)
    reason = c.text(nullable=True)
    fired_at = c.instant()
