"""However the clock jumps between ticks, each due time is handled once: fired, or skipped, and never both."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runyard_common.schedules.rules.catchup import CatchUp, due_fires
from runyard_common.schedules.rules.policies import Jitter
from runyard_common.schedules.rules.schedule import CronSchedule
from tests.generated import EXAMPLES

#: The day before Europe's clocks go back, so that half of the ticks fall on a shift.
START = 1_792_800_000.0
YEARS = 10 * 366 * 86_400.0

lines = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "0 */3 * * *", "30 2 * * *", "0,30 1-3 * * *", "5 4 1 * *"]
)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
steps = st.lists(
    st.one_of(st.floats(0, 300), st.floats(-20_000, 20_000), st.floats(0, 200_000)), min_size=1, max_size=8
)
ticks = {"line": lines, "zone": zones, "steps": steps, "spread": st.sampled_from([0.0, 45.0, 900.0])}


def visited(schedule: CronSchedule, after: float, until: float) -> int:
    count, due = 0, schedule.next_after(after)
    while due is not None and due <= until:
        count, due = count + 1, schedule.next_after(due)
    return count


def run(
    line: str, zone: str, steps: list[float], spread: float, policy: CatchUp, window_s: float, limit: int
) -> tuple[list[float], int, float]:
    """Every fire of a run of ticks, the number skipped, and the newest due time handled."""
    schedule, now, last = CronSchedule(line, zone), START, START
    fired: list[float] = []
    skipped = 0
    for step in steps:
        now += step
        decided = due_fires(schedule, last, now, window_s, policy, limit, jitter=Jitter("s", spread))
        assert decided.last_due is not None
        assert decided.next_due == schedule.next_after(decided.last_due)
        assert all(last < due <= now for due in decided.fires)
        fired += decided.fires
        skipped += decided.skipped
        last = decided.last_due
    return fired, skipped, last


@settings(deadline=None)
@given(
    **ticks,
    policy=st.sampled_from(CatchUp),
    window_s=st.sampled_from([0.0, 900.0, 86_400.0]),
    limit=st.integers(1, 90),
)
def test_every_due_time_is_fired_or_skipped_once(
    line: str, zone: str, steps: list[float], spread: float, policy: CatchUp, window_s: float, limit: int
) -> None:
    fired, skipped, last = run(line, zone, steps, spread, policy, window_s, limit)
    assert fired == sorted(set(fired))
    assert len(fired) + skipped == visited(CronSchedule(line, zone), START, last)


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(**ticks)
def test_under_all_with_a_wide_window_nothing_is_ever_skipped(
    line: str, zone: str, steps: list[float], spread: float
) -> None:
    fired, skipped, last = run(line, zone, steps, spread, CatchUp.ALL, YEARS, 100_000)
    assert skipped == 0
    assert len(fired) == visited(CronSchedule(line, zone), START, last)


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(lines, zones, steps, st.sampled_from([0.0, 45.0]))
def test_under_last_a_tick_that_handles_anything_fires_the_newest(
    line: str, zone: str, steps: list[float], spread: float
) -> None:
    schedule, now, last = CronSchedule(line, zone), START, START
    for step in steps:
        now += step
        decided = due_fires(schedule, last, now, YEARS, CatchUp.LAST, jitter=Jitter("s", spread))
        handled_any = decided.last_due != last
        assert bool(decided.fires) == handled_any
        assert not handled_any or decided.fires[-1] == decided.last_due
        assert decided.last_due is not None
        last = decided.last_due
