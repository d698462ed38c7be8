"""Rescue: runs of workers whose lease ran out are handed on, or parked when a blind repeat could do harm."""

from __future__ import annotations

import random
from typing import Any

from common.domain.ids import uuid7
from common.domain.lifecycle import Event
from common.domain.retry import decide
from common.domain.tasks import Task
from common.services.attempts import back_to_queue, lost_worker
from common.store import journal, questions, tasks, workers
from common.store.transaction import Tx
from common.store.transitions import Change, Head, move

BATCH = 500


def declare_lost(tx: Tx) -> list[str]:
    """Find workers whose lease ran out; from this commit on they can neither heartbeat nor claim."""
    return workers.declare_lost(tx)


def rescue(tx: Tx, worker_id: str) -> int:
    """Hand on up to `BATCH` runs of one lost worker; how many were."""
    owned = tasks.owned(tx.conn, worker_id)[:BATCH]
    if not owned:
        workers.forget(tx, [worker_id])
        return 0
    loaded = tasks.load(tx.conn, [task_id for task_id, _ in owned])
    open_steps = {
        id_: step | {"question_id": uuid7()}
        for id_, step in journal.open_irreversible(tx.conn, list(loaded)).items()
    }
    changes = [
        _change(tx, loaded[id_], attempt, open_steps.get(id_)) for id_, attempt in owned if id_ in loaded
    ]
    answers = move(tx, changes)
    parked = [(a, open_steps[a.id]) for a in answers if isinstance(a, Head) and a.id in open_steps]
    if parked:
        questions.open_(tx, [_parked_row(a, step) for a, step in parked])
    return sum(isinstance(a, Head) for a in answers)


def _change(tx: Tx, task: Task, attempt: int, open_step: dict[str, Any] | None) -> Change:
    if open_step is not None:
        asked = {"id": open_step["question_id"], **_payload(open_step)}
        return Change(task.id, Event.REVIEW, attempt, data={"asked": [asked]})
    failure = lost_worker()
    verdict = decide(failure, task.retries, task.retry_policy, random.random())
    error = failure.to_json(attempt)
    if not verdict.again:
        return Change(task.id, Event.FAIL, attempt, data={"error": error}, values={"error": error})
    values = back_to_queue(tx, verdict.delay_s) | {"retries": verdict.retries, "error": error}
    return Change(
        task.id,
        Event.RESCUE,
        attempt,
        data={"worker": task.lease_owner, "delay_s": verdict.delay_s},
        values=values,
    )


def _payload(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "unknown_outcome",
        "action": step["name"],
        "step": step["key"],
        "arguments": step["detail"],
        "text": f"The worker was lost while the irreversible step {step['name']!r} was open. Nobody knows whether it "
        "took effect: redo it, skip it with a given result, or fail the run.",
        "decisions": ["redo", "skip", "fail"],
    }


def _parked_row(head: Head, step: dict[str, Any]) -> dict[str, Any]:
    # The journal entry's own key would collide with a review the step itself asked for.
    return {
        "id": step["question_id"],
        "org_id": head.org_id,
        "task_id": head.id,
        "key": f"{step['key']}!{head.attempt}",
        "kind": "review",
        "payload": _payload(step),
        "on_timeout": None,
        "deadline_at": None,
    }
