"""Claim: a worker takes as many pending tasks as it has free slots, fairly between lanes, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.domain.errors import RunyardError
from common.domain.fairness import order, system_time
from common.domain.lifecycle import Event, Status
from common.domain.tasks import Task
from common.store import journal, lanes, questions, tasks, workers
from common.store.group_commit import fleeting
from common.store.transaction import Tx
from common.store.transitions import Change, Head, head, move


class LeaseLost(RunyardError):
    """This worker was declared lost; it must end its runs and enlist anew."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker asks for up to `slots` tasks."""

    worker_id: str
    slots: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task this worker now owns, with what it has done before and what it was told."""

    task: Task
    journal: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)


@fleeting
def claim(tx: Tx, commands: Sequence[Claim]) -> list[list[Claimed] | RunyardError]:
    """Answer each claim with the tasks it got, possibly none; `LeaseLost` when the worker may not claim."""
    return [_claim(tx, command) for command in commands]


def _claim(tx: Tx, command: Claim) -> list[Claimed] | RunyardError:
    if not workers.alive(tx, command.worker_id):
        return LeaseLost(worker_id=command.worker_id)
    chosen = _choose(tx, command.slots)
    if not chosen:
        return []
    heads = {task.id: head(task) for task in chosen}
    answers = move(tx, [_change(tx, task, command.worker_id) for task in chosen], heads)
    owned = [
        replace(
            task,
            status=Status.RUNNING,
            attempt=answer.attempt,
            last_seq=answer.last_seq,
            lease_owner=command.worker_id,
            started_at=task.started_at or tx.now,
        )
        for task, answer in zip(chosen, answers, strict=True)
        if isinstance(answer, Head)
    ]
    return _with_past(tx, owned)


def _change(tx: Tx, task: Task, worker_id: str) -> Change:
    values = {
        "attempt": task.attempt + 1,
        "lease_owner": worker_id,
        "started_at": task.started_at or tx.now,
        "resume": 0,
    }
    return Change(task.id, Event.CLAIM, data={"worker": worker_id}, values=values)


def _choose(tx: Tx, slots: int) -> list[Task]:
    """Deal the free slots to the lanes that have work, until slots or work run out."""
    waiting = lanes.pending(tx.conn)
    clocks, system = lanes.clocks(tx.conn, waiting)
    chosen: list[Task] = []
    served: Counter[str] = Counter()
    open_lanes = list(waiting)
    while open_lanes and len(chosen) < slots:
        turns = Counter(order(open_lanes, clocks, system, slots - len(chosen)))
        for lane, count in turns.items():
            seen = {task.id for task in chosen}
            got = [task for task in tasks.claimable(tx, lane, count + served[lane]) if task.id not in seen][
                :count
            ]
            chosen.extend(got)
            served[lane] += len(got)
            if len(got) < count:
                open_lanes.remove(lane)
        if not turns:
            break
    # One lane alone cannot be unfair to anybody: skip the two writes.
    if served and len(waiting) > 1:
        lanes.charge(tx, +served, system, system_time(served, clocks, system, open_lanes))
    return chosen


def _with_past(tx: Tx, owned: Sequence[Task]) -> list[Claimed]:
    again = [task.id for task in owned if task.attempt > 1 or task.retry_of is not None]
    if not again:
        return [Claimed(task) for task in owned]
    journals = journal.load(tx.conn, again)
    answers = questions.of_tasks(tx.conn, again)
    return [Claimed(task, journals.get(task.id, []), answers.get(task.id, [])) for task in owned]
