"""Store new schedules within their organisation's bound: exact, counted one transaction at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.schedules.queries import schedules
from runyard_common.schedules.rules.new_schedule import CAP_SETTING, NewSchedule, judge, placed
from runyard_common.schedules.rules.policies import Jitter
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.values.errors import Conflict, RunyardError


def refusals(tx: Tx, asked: Sequence[Sequence[NewSchedule]]) -> dict[int, RunyardError]:
    """Which of these groups of new schedules cannot be stored, by place, and why.

    Errors: `Conflict` too_many_schedules, `ScheduleError`. Exact: an organisation's schedules are counted
    one transaction at a time.
    """
    refused: dict[int, RunyardError] = {}
    orgs = {new.run.org_id: new.most for group in asked for new in group}
    if not orgs:
        return refused
    advisory.lock(tx, [f"schedules|{org_id}" for org_id in orgs])
    caps = {org_id: cap(tx.conn, org_id, most) for org_id, most in orgs.items()}
    counts = Counter({org: schedules.count_live(tx.conn, org, most) for org, most in caps.items()})
    for index, group in enumerate(asked):
        more = Counter(new.run.org_id for new in group)
        try:
            for new in group:
                judge(new.wanted, tx.now)
            for org_id in more:
                if counts[org_id] + more[org_id] > caps[org_id]:
                    raise _too_many(caps[org_id])
        except RunyardError as refusal:
            refused[index] = refusal
        else:
            counts += more
    return refused


def check_cap(tx: Tx, org_id: str, default: int) -> None:
    """Whether an organisation may have one more schedule. Error: `Conflict` too_many_schedules."""
    advisory.lock(tx, [f"schedules|{org_id}"])
    most = cap(tx.conn, org_id, default)
    if schedules.count_live(tx.conn, org_id, most) >= most:
        raise _too_many(most)


def cap(conn: Connection, org_id: str, default: int) -> int:
    """How many schedules that may still be due an organisation may have."""
    row = identity.organisation(conn, org_id)
    own = ((row.settings if row else None) or {}).get(CAP_SETTING)
    return own if isinstance(own, int) and not isinstance(own, bool) and own >= 0 else default


def _too_many(most: int) -> Conflict:
    return Conflict(
        f"The organisation has {most} schedules that are not finished, its bound. Delete some, or have it raised.",
        code="too_many_schedules",
        field="schedule",
        limit=most,
    )


def store(tx: Tx, asked: Sequence[NewSchedule]) -> list[StoredSchedule]:
    """Store schedules that `refusals` has let through."""
    made = [_stored(tx, new) for new in asked]
    schedules.insert_many(tx, made)
    return made


def _stored(tx: Tx, new: NewSchedule) -> StoredSchedule:
    wanted, run = new.wanted, new.run
    judged = judge(wanted, tx.now)
    due = placed(judged.first if wanted.enabled else None, Jitter(new.id, wanted.jitter_s))
    return StoredSchedule(
        id=new.id,
        org_id=run.org_id,
        agent_id=run.agent_id,
        name=wanted.name,
        front=run.front,
        external_id=new.external_id,
        kind=judged.times.kind,
        spec=judged.times.to_json(),
        timezone=wanted.timezone,
        run=run.to_json(),
        secrets=run.secrets,
        overlap=judged.policies.overlap,
        catch_up=judged.policies.catch_up,
        catch_up_window_s=judged.window_s,
        jitter_s=wanted.jitter_s,
        end_at=judged.policies.lifetime.end_at,
        max_fires=wanted.max_fires,
        fired=0,
        pause_after_failures=wanted.pause_after_failures,
        failures=0,
        last_due_at=None,
        last_task_id=None,
        created_by=run.created_by,
        key_id=run.key_id,
        end_user_id=run.end_user_id,
        meta=wanted.meta,
        created_at=tx.now,
        updated_at=tx.now,
        **due,
    )
