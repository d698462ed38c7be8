"""Admit: queued tasks move on when their limit has room, their back-off is over, or their child has ended."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import limits, queue_places, queued, tasks, waits
from runyard_common.runs.queries.transitions import Change, lock, move
from runyard_common.runs.rules.admission import LimitCheck, Usage, full_limit
from runyard_common.runs.rules.blocked_by import BlockedBy, Blocker
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service.cancellations import expire_late
from runyard_common.runs.service.checks import Checks
from runyard_common.runs.service.queue_order import BATCH, Choice, Chosen

#: What became of a candidate: it was admitted, something keeps it queued, or it was queued no more.
Answer = Literal[True] | BlockedBy | None


#: What is waited for by runs that `admit_due` and `admit_parents` admit, or an event: nothing is looked for one by one,
#: however many there are.
WOKEN: Final = frozenset({Blocker.CHILDREN, Blocker.EVENT, Blocker.SLEEP})


def admit(tx: Tx, blockers: Iterable[BlockedBy]) -> int:
    """Admit what these keep queued and may now start, fairly between lanes; how many were admitted."""
    chosen = Choice(tx).of(blockers)
    candidates = {task.id: task for its in chosen for task, _ in its.tasks}
    answers = _judge(tx, list(candidates.values()))
    for its in chosen:
        _reach(tx, its, answers)
    return _admitted(answers)


def _reach(tx: Tx, chosen: Chosen, answers: Mapping[str, Answer]) -> None:
    """Note up to where a limit's lanes were served: not beyond the first task that it keeps queued still."""
    passed = list(itertools.takewhile(lambda one: answers[one[0].id] != chosen.by, chosen.tasks))
    every = len(passed) == len(chosen.tasks)
    if chosen.reached is not None and (passed or every):
        place = chosen.reached if every else passed[-1][1]
        queue_places.reach(tx, chosen.by, chosen.resume, place)
    gone = any(answers[task.id] is None for task, _ in passed)
    if chosen.by.kind is Blocker.LIMIT and passed and every and (chosen.more or gone):
        tx.freed.add(chosen.by)  # there may be others, and the limit is not full: look again after the commit


def admit_next(tx: Tx, by: BlockedBy) -> int:
    """Admit what one limit keeps queued, or what waits for a child that has ended."""
    if by.kind in WOKEN:
        return 0
    if by.kind is Blocker.CHILD and not _ended(tx, by.what):
        return 0
    return admit(tx, [by])


def _ended(tx: Tx, child_id: str) -> bool:
    child = tasks.light(tx.conn, [child_id]).get(child_id)
    return child is None or child.finished_at is not None


def admit_parents(tx: Tx, child_ids: Sequence[str]) -> int:
    """Admit runs that waited for these children with others, and for nothing more."""
    found = {task.id: task for child_id in child_ids for task in waits.after_child(tx, child_id)}
    return admit_tasks(tx, list(found.values()))


def admit_due(tx: Tx) -> int:
    """Admit tasks whose back-off, sleep or wait is over."""
    return admit_tasks(tx, queued.due(tx.conn, tx.now, BATCH))


def admit_tasks(tx: Tx, candidates: Sequence[Task]) -> int:
    """Judge these queued tasks in the order given; those with room in every limit become pending."""
    return _admitted(_judge(tx, candidates))


def _admitted(answers: Mapping[str, Answer]) -> int:
    return sum(answer is True for answer in answers.values())


def _judge(tx: Tx, candidates: Sequence[Task]) -> dict[str, Answer]:
    """Admit those of these queued tasks that no limit keeps, in the order given; what became of each."""
    in_time = expire_late(tx, candidates)
    late = {task.id for task in candidates} - {task.id for task in in_time}
    return dict.fromkeys(late) | _judge_in_time(tx, in_time)


def _judge_in_time(tx: Tx, candidates: Sequence[Task]) -> dict[str, Answer]:
    if not candidates:
        return {}
    limits.share(tx, {task.org_id for task in candidates})
    checked = Checks(tx).of_tasks(candidates)
    unique = {check.key: check for its in checked.values() for check in its}
    advisory.lock(tx, unique)
    usages = limits.usages(tx, unique.values(), of_new=False)
    heads = lock(tx, checked)
    answers: dict[str, Answer] = {}
    for task in candidates:
        head = heads.get(task.id)
        its = checked[task.id]
        if head is None or head.status != "queued":
            answers[task.id] = None
            continue
        full = full_limit(its, usages, queue_jump=True)
        answers[task.id] = True if full is None else full.blocked_by
        if full is None:
            for check in its:
                usages[check.key] = usages.get(check.key, Usage()).one_more
    admitted = [task for task in candidates if answers[task.id] is True]
    limits.occupy(tx, [(task.id, checked[task.id]) for task in admitted])
    queued.block(
        tx,
        [(t.id, by) for t in candidates if isinstance(by := answers[t.id], BlockedBy) and by != t.blocked_by],
    )
    move(tx, [_change(task, checked[task.id]) for task in admitted], heads)
    return answers


def _change(task: Task, checks: Sequence[LimitCheck]) -> Change:
    values = {"blocked_by": None, "available_at": None, "limit_keys": [check.key for check in checks] or None}
    after = task.blocked_by.label if task.blocked_by else ""
    return Change(task.id, Event.ADMIT, data={"after": after}, values=values)
