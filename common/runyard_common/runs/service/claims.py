"""Claim: a worker gets as many pending tasks as it has free slots, fairly between lanes, in one transaction."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from runyard_common.database.group_commit import last_in_transaction, process_safe
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.queries import pending, tasks
from runyard_common.runs.queries.transitions import Change, head, move
from runyard_common.runs.rules.journal import JournalEntry
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.tasks import Fence, Head, Task, changed
from runyard_common.runs.service import turns
from runyard_common.values.errors import RunyardError

#: Most tasks one claim takes: enough to spread a commit's cost, few enough to start the first soon.
AT_MOST: Final = 128


class LeaseLost(RunyardError):
    """This worker was declared lost; it must end its runs and enlist again."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker asks for up to `slots` tasks, and one more for each of its runs `vacating` that leaves it in the same
    transaction. `agents` are the Python agents (name@version) it can run; None: all. `carried_on`, `dedicated`: see
    `Having`."""

    worker_id: str
    slots: int
    agents: tuple[str, ...] | None = None
    vacating: Collection[str] = ()
    carried_on: tuple[str, ...] = ()
    dedicated: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task this worker now owns, with the answers it was given.

    `journal` is what it has done before: who prepares the run reads it, as it may be large. `at` is when it was
    claimed, on the database's clock.
    """

    task: Task
    journal: list[JournalEntry] = field(default_factory=list)
    answers: list[Question] = field(default_factory=list)
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What a claim got for its `slots`. `more`: other transactions had locked tasks that are left; look again soon."""

    claimed: list[Claimed]
    more: bool = False
    slots: int = 0


@last_in_transaction
@process_safe
def claim(tx: Tx, commands: Sequence[Claim]) -> list[Batch | RunyardError]:
    """Answer each claim with the tasks it got, possibly none; `LeaseLost` when the worker may not claim."""
    return [_claim(tx, command) for command in commands]


def _claim(tx: Tx, command: Claim) -> Batch | RunyardError:
    slots = min(command.slots + sum(task_id in command.vacating for task_id in tx.left), AT_MOST)
    if not slots:
        return Batch([])
    having = pending.Having(command.worker_id, command.agents, command.carried_on, command.dedicated)
    look = pending.look(tx, slots, having)
    if look is None:
        return LeaseLost(worker_id=command.worker_id)
    dealt = turns.deal(tx, slots, having, look)
    chosen = dealt.tasks
    # Only PostgreSQL skips locked rows; SQLite has one writer.
    more = dealt.waiting and len(chosen) < slots and tx.db.is_postgres
    if more and look.left is not None:
        more = look.left > len(chosen)
    elif more:
        more = pending.any_left(tx.conn, [task.id for task in chosen], having)
    if not chosen:
        return Batch([], more, slots)
    heads = {task.id: head(task, task.id in dealt.listened) for task in chosen}
    tx.locked |= heads  # as they were read with a lock: from here on this process knows them
    tokens = {task.id: secrets.token_hex(8) for task in chosen}
    answers = move(tx, [_change(tx, task, command.worker_id, tokens[task.id]) for task in chosen], heads)
    owned = [
        _owned(task, answer, tx.now)
        for task, answer in zip(chosen, answers, strict=True)
        if isinstance(answer, Head)
    ]
    return Batch(_with_answers(tx, owned), more, slots)


#: What many runs of a worker have in common: it keeps each text once.
_COMMON: Final = (
    "org_id",
    "agent_id",
    "version_id",
    "agent_name",
    "version",
    "front",
    "lane",
    "required_agent",
)


def _owned(task: Task, head: Head, now: float) -> Task:
    common = {name: text and sys.intern(text) for name in _COMMON for text in (getattr(task, name),)}
    values = {
        "status": head.status,
        "attempt": head.attempt,
        "claim_token": head.claim_token,
        "last_seq": head.last_seq,
        "lease_owner": head.lease_owner,
        "started_at": task.started_at or now,
    }
    return changed(task, common | values)


def reclaimed(conn: Connection, now: float, task_id: str, fence: Fence) -> Claimed | None:
    """A claim that was made before, as its worker got it; None when it owns the task no more."""
    task = tasks.load(conn, [task_id]).get(task_id)
    if task is None or task.status is not Status.RUNNING or task.fence != fence:
        return None
    return Claimed(task, answers=questions.of_tasks(conn, [task]).get(task_id, []), at=now)


def _change(tx: Tx, task: Task, worker_id: str, token: str) -> Change:
    values = {
        "attempt": task.attempt + 1,
        "claim_token": token,
        "lease_owner": worker_id,
        "started_at": task.started_at or tx.now,
        "resume": 0,
    }
    return Change(task.id, Event.CLAIM, data={"worker": worker_id}, values=values)


def _with_answers(tx: Tx, owned: Sequence[Task]) -> list[Claimed]:
    again = [task for task in owned if task.attempt > 1 or task.retry_of is not None]
    answers = questions.of_tasks(tx.conn, again) if again else {}
    return [Claimed(task, answers=answers.get(task.id, []), at=tx.now) for task in owned]
