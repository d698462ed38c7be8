"""Rescue: runs that lost the process that executed them are handed on, or parked when a repeat could do harm."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from runyard_common.agents.queries import agents
from runyard_common.agents.service import fleet
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.queries import endings, journal, tasks, traced, workers
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.journal import JournalEntry, Step
from runyard_common.runs.rules.lifecycle import Cause, Event
from runyard_common.runs.rules.retry import decide
from runyard_common.runs.rules.suspicion import Loss, judge
from runyard_common.runs.rules.tasks import Failure, Fence, Head, Task
from runyard_common.runs.service.attempts import (
    GIVEN_UP,
    Fail,
    Release,
    back_to_queue,
    fail,
    settle_compensations,
)
from runyard_common.values.ids import uuid7

BATCH = 500


def declare_lost(tx: Tx, watched_s: float | None = None) -> list[str]:
    """Find workers whose lease ran out; from this commit on they can neither heartbeat nor claim, and what they alone
    brought is current no more where another brings a version."""
    return fleet.declare_lost(tx, watched_s)


def rescue(tx: Tx, worker_id: str, loss: Loss = Loss.SILENT) -> int:
    """Hand on up to `BATCH` runs of one lost worker; how many were. Its row goes once it holds none."""
    owned = dict(list(tasks.owned(tx.conn, worker_id).items())[:BATCH])
    if not owned:
        workers.forget(tx, [worker_id])
        return 0
    return hand_on(tx, owned, loss)


def rescue_ownerless(tx: Tx) -> int:
    """Hand on runs whose worker has no row, so that no lease of theirs can run out; how many were."""
    return hand_on(tx, tasks.ownerless(tx.conn, BATCH), Loss.MOVED)


def leave_blocked(tx: Tx, worker_id: str, guilty: str | None, seconds: float, stack: str) -> int:
    """A worker's event loop is blocked: fail the run that blocks it, if it is known, and hand on the others.

    Where it is not known, each of them is a suspect.
    """
    owned = tasks.owned(tx.conn, worker_id)
    fence = owned.pop(guilty, None) if guilty is not None else None
    handed_on = hand_on(tx, owned, Loss.CRASHED if fence is None else Loss.CROWDED)
    if guilty is not None and fence is not None:
        # The stack shows source code: other organisations that run a shared agent see its outside only.
        shown = stack if agents.is_own(tx.conn, guilty) else ""
        blame(tx, guilty, fence, blocked_loop(seconds, shown))
    return handed_on


def blocked_loop(seconds: float, stack: str = "") -> Failure:
    """The failure of a run whose code did not give the event loop back."""
    return Failure(
        "agent_blocked_loop",
        f"The agent's code blocked its worker's event loop for {seconds:.0f} s, and every run beside it. Await what "
        "waits (asyncio.sleep, an async client), or do blocking work in ctx.step with a plain function or in a "
        "plain `def` agent.",
        Cause.AGENT,
        True,
        details={"stack": stack[-4000:]} if stack else {},
    )


def blame(tx: Tx, task_id: str, fence: Fence, failure: Failure) -> None:
    """Let a run pay for the process it has ended: it fails, or is tried again at its agent's own cost.

    One with an irreversible step open is parked instead: whether that step took effect is not known. One that is
    undone pays with the compensation that it is at, and goes on with the next.
    """
    known = tasks.light(tx.conn, [task_id]).get(task_id)
    goes_on = known is not None and known.ending is None
    if goes_on and journal.open_irreversible(tx.conn, [task_id]):
        hand_on(tx, {task_id: fence}, Loss.SUSPECTED)
    else:
        traced.note_lost(tx, {task_id: fence}, Loss.CRASHED.value)
        undone = [] if goes_on else [task_id]
        step = endings.under_way(tx.conn, undone).get(task_id)
        fail(tx, [Fail(task_id, fence, failure, compensation=step)])


def suspect(tx: Tx, commands: Sequence[Release]) -> list[None]:
    """Let these runs go on in processes of their own: what they met in a common one may be any one's doing. A
    group-commit batch function."""
    hand_on(tx, {command.task_id: command.fence for command in commands}, Loss.SUSPECTED, by_itself=True)
    return [None] * len(commands)


def hand_on(tx: Tx, lost: Mapping[str, Fence], loss: Loss, *, by_itself: bool = False) -> int:
    """Let others go on with these runs, each behind its last finished step; how many were still owned so. `by_itself`:
    their process goes on, and hands them on itself."""
    if not lost:
        return 0
    loaded = tasks.light(tx.conn, lost)
    going_on = [id_ for id_, task in loaded.items() if task.ending is None]
    open_steps = journal.open_irreversible(tx.conn, going_on)
    reviews = {id_: _review(tx, loaded[id_], step) for id_, step in open_steps.items()}
    progressed = journal.progressed(tx, [(id_, fence.attempt) for id_, fence in lost.items()])
    undone = endings.under_way(tx.conn, [id_ for id_, task in loaded.items() if task.ending is not None])
    changes = [
        _change(tx, task, lost[id_], loss, id_ in progressed, reviews.get(id_), undone.get(id_))
        for id_, task in loaded.items()
    ]
    if not by_itself:
        traced.note_lost(tx, lost, loss.value)
    answers = move(tx, changes)
    settle_compensations(tx, [(lost[c.task_id], undone.get(c.task_id), c) for c in changes], answers)
    questions.open_(tx, [reviews[a.id] for a in answers if isinstance(a, Head) and a.id in reviews])
    return sum(isinstance(a, Head) for a in answers)


def _change(
    tx: Tx,
    task: Task,
    fence: Fence,
    loss: Loss,
    progressed: bool,
    review: Question | None,
    compensation: Step | None,
) -> Change:
    judgement = judge(task.suspicion, loss, progressed, fence.attempt, task.releases)
    suspicion = {"suspicion": int(judgement.suspicion)}
    kept = suspicion | {"releases": judgement.interrupted}
    if review is not None:
        asked = {"id": review.id, **review.payload}
        return Change(task.id, Event.REVIEW, fence, data={"asked": [asked]}, values=suspicion)
    data = {"worker": task.lease_owner, "loss": loss.value, "delay_s": 0.0} | suspicion
    if not judgement.charged:
        return Change(task.id, Event.RESCUE, fence, data=data, values=back_to_queue(tx) | kept)
    failure = _lost_again(task)
    verdict = decide(failure, task.retries, task.retry_policy, random.random())
    error = failure.to_json(fence.attempt)
    if not verdict.again and compensation is not None:  # the next one has budgets of its own
        values = back_to_queue(tx) | suspicion | {"retries": None, "releases": 0, "error": error}
        given_up = {"error": error, GIVEN_UP: compensation.key}
        return Change(task.id, Event.RESCUE, fence, data=data | given_up, values=values)
    if not verdict.again:
        return Change(task.id, Event.FAIL, fence, data={"error": error}, values={"error": error} | suspicion)
    charged = {"retries": verdict.retries, "error": error} | kept
    values = back_to_queue(tx, verdict.delay_s) | charged
    return Change(task.id, Event.RESCUE, fence, data=data | {"delay_s": verdict.delay_s}, values=values)


def _lost_again(task: Task) -> Failure:
    return Failure(
        "worker_lost",
        f"The worker that ran this task ({task.lease_owner}) stopped answering: it was killed, crashed, or lost its "
        f"connection. That has happened before while this task ran, and the task finished no step in between "
        f"(attempt {task.attempt}).",
        Cause.INFRASTRUCTURE,
        True,
    )


def _review(tx: Tx, task: Task, step: JournalEntry) -> Question:
    payload = {
        "kind": "unknown_outcome",
        "action": step.name,
        "step": step.key,
        "arguments": step.detail,
        "text": f"The worker was lost while the irreversible step {step.name!r} was open. It is not known "
        "whether it took effect: redo it, skip it with a given result, or fail the run.",
        "decisions": ["redo", "skip", "fail"],
    }
    key = f"{step.key}!{task.attempt}"  # its own key would collide with a review the step itself asked for
    return Question(uuid7(), task.org_id, task.id, key, "review", payload, None, None, tx.now)
