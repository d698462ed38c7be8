"""The preview of due times, with the ones a clock shift touches marked."""

from __future__ import annotations

from datetime import datetime

import pytest

from runyard_common.schedules.rules.policies import Lifetime
from runyard_common.schedules.rules.preview import MAX_PREVIEW, ClockNote, PreviewEntry, preview
from runyard_common.schedules.rules.schedule import CronSchedule, DelaySchedule
from runyard_common.schedules.rules.schedule_text import parse_schedule
from runyard_common.values.errors import ScheduleError


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def notes(line: str, zone: str, after: str, count: int) -> list[tuple[str, ClockNote | None]]:
    return [(entry.local[5:], entry.note) for entry in preview(CronSchedule(line, zone), at(after), count)]


def test_an_entry_has_the_instant_and_the_local_time_with_its_offset() -> None:
    entry = preview(CronSchedule("0 9 * * *", "America/New_York"), at("2026-07-01T00:00:00+00:00"), 1)[0]
    assert entry == PreviewEntry(at("2026-07-01T13:00:00+00:00"), "2026-07-01T09:00:00-04:00", None)
    assert entry.to_json() == {"at": 1_782_910_800.0, "local": "2026-07-01T09:00:00-04:00", "note": None}


def test_a_moved_time_is_marked() -> None:
    assert notes("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00", 3) == [
        ("03-28T02:30:00+01:00", None),
        ("03-29T03:00:00+02:00", ClockNote.MOVED),
        ("03-30T02:30:00+02:00", None),
    ]


def test_a_time_right_after_the_jump_that_is_its_own_is_not_marked() -> None:
    assert notes("0 3 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00", 1) == [
        ("03-29T03:00:00+02:00", None)
    ]


def test_a_doubled_time_of_day_is_marked_once() -> None:
    assert notes("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00+02:00", 2) == [
        ("10-25T02:30:00+02:00", ClockNote.DOUBLED),
        ("10-26T02:30:00+01:00", None),
    ]


def test_the_two_passes_of_an_interval_are_distinct() -> None:
    assert notes("0 * * * *", "Europe/Berlin", "2026-10-25T01:30:00+02:00", 3) == [
        ("10-25T02:00:00+02:00", ClockNote.DOUBLED_FIRST),
        ("10-25T02:00:00+01:00", ClockNote.DOUBLED_SECOND),
        ("10-25T03:00:00+01:00", None),
    ]


def test_an_interval_marks_the_first_time_after_the_ones_it_passed_over() -> None:
    assert notes("0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00+01:00", 3) == [
        ("03-29T01:00:00+01:00", None),
        ("03-29T03:00:00+02:00", ClockNote.PASSED_OVER),
        ("03-29T04:00:00+02:00", None),
    ]


def test_a_date_in_a_skipped_or_doubled_hour_is_marked() -> None:
    now = at("2026-01-01T00:00:00+00:00")
    for text, note in (
        ("2026-03-29T02:30", ClockNote.MOVED),
        ("2026-10-25T02:30", ClockNote.DOUBLED),
        ("2026-10-25T02:30+02:00", None),
        ("2026-05-01", None),
    ):
        assert preview(parse_schedule(text, "Europe/Berlin", now=now), now, 5)[0].note == note


def test_a_single_moment_has_one_entry_and_then_none() -> None:
    schedule = DelaySchedule(at("2026-07-01T00:00:00+00:00") + 0.25, "UTC", 30.25)
    assert [entry.local for entry in preview(schedule, 0.0, 5)] == ["2026-07-01T00:00:00.250000+00:00"]
    assert preview(schedule, schedule.at, 5) == []


def test_a_preview_stops_at_the_end_of_the_schedule() -> None:
    start = at("2026-07-01T00:00:00+00:00")
    entries = preview(CronSchedule("0 * * * *"), start, 10, Lifetime(end_at=start + 3 * 3600))
    assert [entry.at for entry in entries] == [start + 3600, start + 7200, start + 10_800]


@pytest.mark.parametrize("count", [0, -1, MAX_PREVIEW + 1])
def test_a_preview_of_no_or_too_many_times_is_refused(count: int) -> None:
    with pytest.raises(ScheduleError) as caught:
        preview(CronSchedule("0 * * * *"), 0.0, count)
    assert (caught.value.code, caught.value.field) == ("bad_count", "count")
