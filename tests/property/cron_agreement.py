"""Compare the due times of `runyard_common.domain` with a minute-by-minute cron daemon and with two libraries.

    python -m tests.property.cron_agreement --cases 100000 [--seed 1]

The daemon must agree in every case. cronsim and croniter are second opinions: each difference must be one
of the documented ones (docs/decisions/0006-cron-reading.md); any other fails the run.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from runyard_common.schedules.rules.schedule import CronSchedule
from runyard_common.schedules.rules.schedule_text import parse_schedule
from runyard_common.values.errors import ScheduleError
from tests.property import cron_daemon, second_opinions
from tests.property.cron_cases import Case, case

DAY = 86_400
NEXT = 3  # due times compared in each case


@dataclass
class Tally:
    cases: int = 0
    times: int = 0
    never: int = 0
    disagreements: list[str] = field(default_factory=list)
    opinions: Counter[str] = field(default_factory=Counter)


def compare(cases: int, seed: int, *, all_zones: bool = True, days: tuple[int, ...] = (2, 40, 800)) -> Tally:
    """Compare `cases` random cases; the tally names every one that disagrees without a documented reason."""
    rng = random.Random(seed)
    tally = Tally()
    while tally.cases < cases:
        one = case(rng, all_zones=all_zones)
        horizon = one.start + rng.choices(days, (85, 14, 1))[0] * DAY
        tally.cases += 1
        try:
            schedule = parse_schedule(one.expression, one.zone, now=one.start)
        except ScheduleError as refusal:
            _refused(one, refusal, tally)
            continue
        assert isinstance(schedule, CronSchedule)
        _compare(one, schedule, horizon, tally)
    return tally


def _compare(one: Case, schedule: CronSchedule, horizon: int, tally: Tally) -> None:
    daemon = cron_daemon.fires(cron_daemon.Line(one.expression), schedule.zone, one.start, horizon)
    expected = list(itertools.islice(daemon, NEXT))
    actual: list[float] = []
    due = schedule.next_after(one.start)
    first = due
    while due is not None and due <= horizon and len(actual) < NEXT:
        actual.append(due)
        due = schedule.next_after(due)
    tally.times += len(actual)
    if actual != expected:
        tally.disagreements.append(f"daemon: {one} fires at {expected}, not {actual}")
    for name, opinion in second_opinions.OPINIONS.items():
        verdict = opinion(one, schedule, first)
        tally.opinions[f"{name}: {verdict}"] += 1
        if verdict.startswith("unexplained"):
            tally.disagreements.append(f"{name}: {one} {verdict}")


def _refused(one: Case, refusal: ScheduleError, tally: Tally) -> None:
    """The generator writes no bad line, so the only good reason is a line whose days do not exist."""
    tally.never += 1
    if refusal.code != "cron_never_fires" or second_opinions.has_a_day(cron_daemon.Line(one.expression)):
        tally.disagreements.append(f"daemon: {one} was refused as {refusal.code}: {refusal}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.perf_counter()
    tally = compare(options.cases, options.seed)
    seconds = time.perf_counter() - began
    print(
        f"{tally.cases} cases (seed {options.seed}) in {seconds:.0f} s: {tally.times} due times compared,"
        f" {tally.never} lines that never fire, {len(tally.disagreements)} unexplained disagreements"
    )
    for verdict, count in sorted(tally.opinions.items()):
        print(f"  {count:7} {verdict}")
    for line in tally.disagreements[:20]:
        print("  !", line)
    return 1 if tally.disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
