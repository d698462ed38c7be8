"""Waiting work: a task's place in its queue, and how much work the workers have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from runyard_common.runs.queries import limits, pending, tasks, waits, workers
from runyard_common.runs.queries.limit_changes import context_of
from runyard_common.runs.queries.workers import Worker
from runyard_common.runs.rules import estimates
from runyard_common.runs.rules.admission import LimitCheck, limit_checks
from runyard_common.runs.rules.blocked_by import RESUME, RETRY, BlockedBy, Blocker
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.rules.waits import CHILD_PART
from runyard_common.runs.tables import Task as TaskRow

#: What a pending run waits for whose agent no live worker has, in the place of a limit.
WORKER = "worker"
#: Agents of a limit's runs whose durations are looked up for an estimate.
_AGENTS_ASKED = 3
_T = TaskRow.__table__.c


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """What keeps a task queued, its place (1 = next), and a guess in seconds with what it is based on."""

    limit: str | None
    position: int
    estimate_s: float | None
    basis: str
    until: float | None = None  # when it goes on at the latest, in epoch seconds


def queue_position(conn: Connection, task: Task, now: float) -> QueuePosition:
    """The place of a queued task. `now` is in epoch seconds."""
    by = task.blocked_by
    if task.status is Status.PENDING:
        others = workers.fleet(conn, now).versions(task.agent_name)
        return QueuePosition(WORKER, 1, None, without_worker(task.agent_name, task.version, others))
    if by == RETRY and task.available_at is not None:
        return QueuePosition(
            by.label, 1, max(0.0, task.available_at - now), "the back-off before its next attempt"
        )
    if by is not None and by.kind in _WAITS:
        return _waiting(conn, task, by, now)
    if by is None or by == RESUME or by.kind is Blocker.CHILD:
        return QueuePosition(by.label if by else None, 1, None, "it goes on as soon as it can")
    position = tasks.position(conn, task)
    checks = limit_checks(limits.binding(limits.rules(conn, {task.org_id}), task.org_id), context_of(task))
    check = next((one for one in checks if one.key == by.stored), LimitCheck(by.stored))
    guesses = [_by_rate(conn, check.key, rate, position, now) for rate in check.rates]
    if check.max_concurrent is not None or not guesses:
        guesses.append(_by_runs(conn, check, task, position, now))
    basis = "; ".join(basis for _, basis in guesses)
    if any(guess is None for guess, _ in guesses):
        return QueuePosition(by.label, position, None, basis)
    return QueuePosition(by.label, position, round(max(guess or 0.0 for guess, _ in guesses), 3), basis)


#: What a run waits for that has left its worker to wait.
_WAITS = (Blocker.SLEEP, Blocker.EVENT, Blocker.CHILDREN)
_MOST_SHOWN = 100


def _waiting(conn: Connection, task: Task, by: BlockedBy, now: float) -> QueuePosition:
    left = None if task.available_at is None else max(0.0, task.available_at - now)
    if by.kind is Blocker.SLEEP:
        return QueuePosition(by.label, 1, left, "it sleeps", task.available_at)
    parts = waits.parts(conn, task.id, _MOST_SHOWN)
    children = sum(part.kind == CHILD_PART for part in parts)
    events = [
        f"{wait.name}{f' ({wait.address})' if wait.address else ''}" for wait in waits.waits_of(conn, task.id)
    ]
    more = " or more" if len(parts) == _MOST_SHOWN else ""
    waited = [f"the event {event}" for event in events[:10]] if by.kind is Blocker.EVENT else []
    waited += [f"{children}{more} children"] if children else []
    return QueuePosition(
        by.label, 1, left, f"it waits for {', '.join(waited) or 'a time'}", task.available_at
    )


_Guess = tuple[float | None, str]


def _by_rate(conn: Connection, key: str, rate: tuple[int, float], position: int, now: float) -> _Guess:
    (count, seconds), since = rate, now - rate[1]
    starts = limits.count_starts(conn, key, since)
    guess = estimates.by_rate(
        position, count, seconds, starts, lambda index: now - limits.nth_start(conn, key, since, index)
    )
    return guess, f"{count} may start in {seconds:g} s, {starts} have"


def _by_runs(conn: Connection, check: LimitCheck, task: Task, position: int, now: float) -> _Guess:
    """From the runs that hold the limit, which may be of other agents: the one ahead in a session, say."""
    if check.max_concurrent == 0:
        return None, "none may run"
    running = limits.running(conn, check.key)
    own = tasks.recent_durations(conn, task.agent_id)
    agents = sorted({agent for agent, _ in running})[:_AGENTS_ASKED]
    ahead = [seconds for agent in agents for seconds in tasks.recent_durations(conn, agent)] or own
    if not ahead:
        return None, "no run of this agent has ended yet"
    mean = sum(ahead) / len(ahead)
    ages = [0.0 if started is None else now - started for _, started in running]
    guess = estimates.by_runs(position, ages, mean, sum(own) / len(own) if own else mean)
    return guess, f"the last {len(ahead)} runs took {mean:.3g} s on average, {max(1, len(ages))} run at once"


def without_worker(name: str, version: str, others: Sequence[str] = ()) -> str:
    """Why a pending run does not start, and what to do. `others` are the versions that live workers have."""
    remedy = "start a worker whose RUNYARD_AGENTS brings this version, or cancel the run"
    if not others:
        return f"no worker has this agent ({name} {version}): {remedy}"
    return (
        f"no worker has this agent ({name} {version}), workers have {', '.join(others)}: {remedy} and submit it again "
        "for the current version"
    )


def waiting_for_workers(conn: Connection, now: float, org_id: str | None = None) -> dict[str, int]:
    """How many pending runs, of an organisation or of all, wait for each Python agent (name@version) that no live
    worker has."""
    required = pending.by_agent(conn, org_id)
    fleet = workers.fleet(conn, now) if required else None
    return {agent: count for agent, count in required.items() if fleet is not None and not fleet.has(agent)}


@dataclass(frozen=True, slots=True)
class WithoutCode:
    """A run that cannot go on: no live worker has its agent in this version. `others` are those that workers have."""

    task: str
    agent: str
    version: str
    others: list[str]


def without_code(conn: Connection, now: float, org_id: str, at_most: int) -> list[WithoutCode]:
    """An organisation's unfinished runs, those that wait for a person too, whose agent no live worker has."""
    fleet = workers.fleet(conn, now)
    missing = [agent for agent in pending.started_agents(conn, org_id) if not fleet.has(agent)]
    found = pending.requiring(conn, org_id, missing, at_most) if missing else []
    split = [(task, *agent.rpartition("@")[::2]) for task, agent in found]
    return [WithoutCode(task, name, version, fleet.versions(name)) for task, name, version in split]


@dataclass(frozen=True, slots=True)
class Backlog:
    """The work there is. `oldest_s` is how long the oldest claimable task has waited, in seconds."""

    by_status: dict[str, int]
    oldest_s: float
    workers: int
    capacity: int
    wanted_workers: int
    without_worker: int  # pending runs whose agent no live worker has
    loop_lag_s: float  # of the worker whose event loop is the latest
    threads_held: int  # by runs that have ended

    def to_json(self) -> dict[str, Any]:
        """As operators and autoscalers read it."""
        waiting = self.by_status.get(Status.PENDING, 0)
        running = self.by_status.get(Status.RUNNING, 0)
        return {
            "waiting": waiting,
            "running": running,
            "queued": self.by_status.get(Status.QUEUED, 0),
            "waiting_for_input": self.by_status.get(Status.WAITING_FOR_INPUT, 0),
            "awaiting_review": self.by_status.get(Status.AWAITING_REVIEW, 0),
            "oldest_waiting_s": round(self.oldest_s, 3),
            "workers": self.workers,
            "capacity": self.capacity,
            "wanted_workers": self.wanted_workers,
            "without_worker": self.without_worker,
            "loop_lag_s": self.loop_lag_s,
            "threads_held": self.threads_held,
        }


def backlog(conn: Connection, now: float, per_worker: int, org_id: str | None = None) -> Backlog:
    """The unfinished work of an organisation, or of all. `per_worker` is how many runs a worker is for."""
    mine = [_T.finished_at.is_(None)] + ([_T.org_id == org_id] if org_id is not None else [])
    counted = conn.execute(
        select(_T.status, func.count().label("waiting")).where(*mine).group_by(_T.status)
    ).all()
    by_status: dict[str, int] = {row.status: row.waiting for row in counted}
    oldest = conn.execute(
        select(func.min(_T.updated_at)).where(*mine, _T.status == Status.PENDING.value)
    ).scalar()
    alive = [worker for worker in workers.every(conn) if worker.is_alive(now)]
    without = sum(waiting_for_workers(conn, now, org_id).values())
    work = by_status.get(Status.PENDING, 0) + by_status.get(Status.RUNNING, 0)
    return Backlog(
        by_status,
        max(0.0, now - oldest) if oldest is not None else 0.0,
        len(alive),
        sum(w.capacity for w in alive if not w.draining),
        math.ceil(work / _capacity_of_one(alive, per_worker)),
        without,
        max((w.loop_lag_s for w in alive), default=0.0),
        sum(w.threads_held for w in alive),
    )


def _capacity_of_one(alive: Sequence[Worker], default: int) -> int:
    return max(1, max((w.capacity for w in alive), default=default))
