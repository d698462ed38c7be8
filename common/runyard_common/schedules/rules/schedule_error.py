"""The refusal of a schedule: a stable code, the field and what to write instead."""

from __future__ import annotations

from runyard_common.values.errors import InvalidRequest


class ScheduleError(InvalidRequest):
    """The schedule cannot be used as written.

    Codes: ``bad_schedule``, ``bad_cron``, ``cron_never_fires``, ``bad_timezone``, ``bad_date``,
    ``date_in_past``, ``date_too_far``, ``bad_delay``, ``delay_too_long``, ``bad_jitter``, ``bad_end``,
    ``bad_count``, ``bad_window``, ``bad_overlap``, ``bad_catch_up``.
    """

    code = "bad_schedule"
    title = "Bad schedule"
