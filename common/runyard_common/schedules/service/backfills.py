"""Backfill: runs for the due times of a schedule that passed without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.runs.service.runs import RunRules
from runyard_common.schedules.queries import fires as rows
from runyard_common.schedules.rules import backfill
from runyard_common.schedules.rules.firing import FireOutcome
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.schedules.service import fires, schedules
from runyard_common.schedules.service.fires import Fire
from runyard_common.values.errors import RunyardError


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be made up for, at most `limit` times. Instants are epoch seconds; `until` None: until now."""

    since: float
    until: float | None = None
    limit: int = backfill.MAX_BACKFILL
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class MadeRuns:
    """Due times with the ids of their runs (None in a dry run), oldest first; `next_since` as `backfill.Backfill`'s."""

    schedule: StoredSchedule
    runs: tuple[tuple[float, str | None], ...]
    next_since: float | None
    dry_run: bool = False


def make_up(
    tx: Tx, rules: RunRules, org_id: str, schedule_id: str, asked: Asked, by: str | None = None
) -> MadeRuns:
    """Make the runs of due times that have none, all of them or, when one is refused, none.

    They wait for their limits as all runs do. They count neither for the schedule's overlap policy nor for its number
    of runs and its failures in a row. Errors: `NotFound`; `InvalidRequest` bad_range; those that refuse a run.
    """
    schedule = schedules.lock(tx, org_id, schedule_id)
    asked_range = backfill.open_range(schedule, asked.since, asked.until, tx.now)
    done = rows.with_runs(tx.conn, schedule_id, asked_range.since, asked_range.until)
    found = backfill.plan(schedule, asked_range, done, asked.limit)
    if asked.dry_run:
        return MadeRuns(schedule, tuple((at, None) for at in found.times), found.next_since, True)
    known, reason = fires.Agents(tx.conn), f"backfilled by {by}" if by else "backfilled"
    made = [fires.prepare(schedule, at, False, known, rules, tx.now, reason) for at in found.times]
    _submit(tx, made)
    outcome = FireOutcome.BACKFILLED.value
    rows.make_up(tx, [replace(fire.row(tx.now), outcome=outcome) for fire in made])
    if made:
        detail = {"runs": len(made), "from": made[0].due_at, "to": made[-1].due_at}
        schedules.note(tx, org_id, by, "backfill", schedule_id, detail)
    return MadeRuns(schedule, tuple((fire.due_at, fire.task_id) for fire in made), found.next_since)


def _submit(tx: Tx, made: Sequence[Fire]) -> None:
    specs: list[RunSpec] = []
    for fire in made:
        if isinstance(fire.run, RunyardError):
            raise fire.run
        specs.append(fire.run)
    for answer in submissions.submit(tx, specs):
        if isinstance(answer, RunyardError):
            raise answer
