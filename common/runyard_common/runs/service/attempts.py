"""The end of an attempt: finish, fail or retry, ask, review, release. All fenced; `waits` has the others.

Each function takes the commands of many attempts at once; a stale attempt's command answers `StaleFence`
and changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard_common.database.group_commit import locks_tasks
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.queries import events, journal, tasks
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.blocked_by import RESUME, RETRY
from runyard_common.runs.rules.journal import JournalEntry, Step
from runyard_common.runs.rules.lifecycle import Cause, Event
from runyard_common.runs.rules.retry import decide
from runyard_common.runs.rules.specs import versioned
from runyard_common.runs.rules.tasks import Failure, Fence, Head, Task
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.sessions.queries import messages
from runyard_common.sessions.rules import Line
from runyard_common.values.errors import RunyardError
from runyard_common.values.ids import uuid7

Answers = list[Head | RunyardError]
#: What an attempt that ended as its agent wanted clears.
ENDED_WELL = {"suspicion": 0, "releases": 0}


@dataclass(frozen=True, slots=True)
class Finish:
    """The agent returned `output`; `lines` are conversation lines to keep with the session."""

    task_id: str
    fence: Fence
    output: Any
    lines: tuple[Line, ...] = ()
    title: str | None = None


@locks_tasks
def finish(tx: Tx, commands: Sequence[Finish]) -> Answers:
    """running → completed."""
    changes = [
        Change(
            c.task_id,
            Event.FINISH,
            c.fence,
            # What failed before belongs to the log: a completed run has no error.
            values={"output": c.output, "error": None} | ({"title": c.title} if c.title else {}),
        )
        for c in commands
    ]
    answers = move(tx, changes)
    kept = [(a, c.lines) for a, c in zip(answers, commands, strict=True) if isinstance(a, Head) and c.lines]
    messages.append_lines(tx, kept)
    return answers


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt ended with `failure`; whether the run is over its retry budgets decide."""

    task_id: str
    fence: Fence
    failure: Failure
    lines: tuple[Line, ...] = ()
    compensation: Step | None = None  # that failed, of a run that undoes what it did
    step: str | None = None  # the key of that whose failure it is


@locks_tasks
def fail(tx: Tx, commands: Sequence[Fail]) -> Answers:
    """running → queued (retry) or failed. A failed run's unfinished children are stopped."""
    known = tasks.light(tx.conn, [c.task_id for c in commands])
    changes = [_failure_change(tx, known.get(c.task_id), c) for c in commands]
    answers = move(tx, changes)
    moved = [(a, c.event) for a, c in zip(answers, changes, strict=True) if isinstance(a, Head)]
    ended_by = {command.task_id: command.step for command in commands if command.step is not None}
    again = [a.id for a, event in moved if event is Event.RETRY]
    journal.drop_failed(tx, again, {id_: ended_by[id_] for id_ in again if id_ in ended_by})
    given_up = [(c.fence, c.compensation, change) for c, change in zip(commands, changes, strict=True)]
    settle_compensations(tx, given_up, answers)
    ended = [a.id for a, event in moved if event is Event.FAIL]
    orphans = tasks.children(tx.conn, ended) if ended else []
    if orphans:
        cancel_tasks(tx, orphans, "its parent failed")
    messages.append_lines(
        tx, [(a, c.lines) for a, c in zip(answers, commands, strict=True) if isinstance(a, Head) and c.lines]
    )
    return answers


def settle_compensations(
    tx: Tx, moves: Sequence[tuple[Fence, Step | None, Change]], answers: Sequence[Head | RunyardError]
) -> None:
    """Put on record which compensations are given up: the others still run."""
    for (fence, step, change), answer in zip(moves, answers, strict=True):
        if isinstance(answer, Head) and step is not None and GIVEN_UP in change.data:
            error = change.data["error"]
            value = {"outcome": "failed", "error": error}
            journal.insert_new(tx, [JournalEntry.of(answer.id, fence.attempt, step, "done", value)])
            data = {"name": step.name, "key": step.key, **value}
            events.append(tx, {answer.id: answer}, [(answer.id, COMPENSATED, data)])


#: In the data of a `retry` or `rescue`: a compensation is given up, and the run goes on with the next.
GIVEN_UP = "given_up"
#: The event of a compensation's end.
COMPENSATED = "compensated"


def _failure_change(tx: Tx, task: Any, command: Fail) -> Change:
    failure = command.failure
    error = failure.to_json(command.fence.attempt)
    if task is not None:
        verdict = decide(failure, task.retries, task.retry_policy, random.random())
        if verdict.again:
            return Change(
                command.task_id,
                Event.RETRY,
                command.fence,
                data={"error": error, "delay_s": verdict.delay_s},
                values=back_to_queue(tx, verdict.delay_s) | {"retries": verdict.retries, "error": error},
            )
        if command.compensation is not None:  # the next one has budgets of its own
            data = {"error": error, "delay_s": 0.0, GIVEN_UP: command.compensation.key}
            values = back_to_queue(tx) | {"retries": None, "error": error}
            return Change(command.task_id, Event.RETRY, command.fence, data=data, values=values)
    return Change(command.task_id, Event.FAIL, command.fence, data={"error": error}, values={"error": error})


@dataclass(frozen=True, slots=True)
class End:
    """The compensations of a run are over."""

    task_id: str
    fence: Fence


@locks_tasks
def end(tx: Tx, commands: Sequence[End]) -> Answers:
    """running → failed or stopped, as the run was to end."""
    return move(tx, [Change(c.task_id, Event.FAIL, c.fence) for c in commands])


def back_to_queue(tx: Tx, delay_s: float = 0.0) -> dict[str, Any]:
    """The columns of a started task that goes back to wait: ahead of new work, after `delay_s` seconds."""
    tx.freed.add(RESUME)
    if delay_s > 0:
        return {"blocked_by": RETRY, "available_at": tx.now + delay_s, "resume": 0}
    return {"blocked_by": RESUME, "available_at": None, "resume": 0}


@dataclass(frozen=True, slots=True)
class Asked:
    """One question or review to put to people. `deadline_s` counts from now; see `Question.on_timeout`."""

    key: str
    kind: str  # question, review
    payload: dict[str, Any]
    deadline_s: float | None = None
    on_timeout: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Suspend:
    """The run waits for people; it holds nothing meanwhile."""

    task_id: str
    fence: Fence
    asked: tuple[Asked, ...]
    lines: tuple[Line, ...] = ()


@locks_tasks
def suspend(tx: Tx, commands: Sequence[Suspend]) -> Answers:
    """running → awaiting_review when a review is among what is asked, else waiting_for_input."""
    ids = [[uuid7() for _ in c.asked] for c in commands]
    changes = [_suspension(c, its) for c, its in zip(commands, ids, strict=True)]
    answers = move(tx, changes)
    opened = [
        Question(
            id_,
            answer.org_id,
            c.task_id,
            a.key,
            a.kind,
            a.payload,
            a.on_timeout,
            deadline_at=tx.now + a.deadline_s if a.deadline_s is not None else None,
            created_at=tx.now,
        )
        for answer, c, its in zip(answers, commands, ids, strict=True)
        if isinstance(answer, Head)
        for id_, a in zip(its, c.asked, strict=True)
    ]
    questions.open_(tx, opened)
    messages.append_lines(
        tx, [(a, c.lines) for a, c in zip(answers, commands, strict=True) if isinstance(a, Head) and c.lines]
    )
    return answers


def _suspension(command: Suspend, ids: Sequence[str]) -> Change:
    event = Event.REVIEW if any(a.kind == "review" for a in command.asked) else Event.ASK
    asked = [{"id": id_, "kind": a.kind, **a.payload} for id_, a in zip(ids, command.asked, strict=True)]
    return Change(command.task_id, event, command.fence, data={"asked": asked}, values=dict(ENDED_WELL))


#: Times a run may be handed back, for other reasons than a drain, without a finished step in between.
MOST_RELEASES = 10
DRAIN = "drain"
#: The worker has no such agent: from here on only workers that have it claim the run.
NO_SUCH_AGENT = "no_such_agent"


@dataclass(frozen=True, slots=True)
class Release:
    """A worker hands the run back; no retry budget is spent, but only a drain may repeat without end."""

    task_id: str
    fence: Fence
    reason: str = DRAIN


@locks_tasks
def release(tx: Tx, commands: Sequence[Release]) -> Answers:
    """running → queued, to be resumed by another worker behind its last journaled step.

    A run that was handed back `MOST_RELEASES` times without progress fails instead: something about it, or about
    the workers, keeps it from being executed.
    """
    counted = [c for c in commands if c.reason != DRAIN]
    known = tasks.light(tx.conn, [c.task_id for c in counted]) if counted else {}
    gets_on = journal.progressed(tx, [(c.task_id, c.fence.attempt) for c in counted])
    return move(tx, [_release_change(tx, c, known.get(c.task_id), c.task_id in gets_on) for c in commands])


def _release_change(tx: Tx, command: Release, task: Task | None, gets_on: bool) -> Change:
    data: dict[str, Any] = {"reason": command.reason}
    if task is None:
        return Change(command.task_id, Event.RELEASE, command.fence, data=data, values=back_to_queue(tx))
    if command.reason == NO_SUCH_AGENT:
        values = back_to_queue(tx) | {"required_agent": versioned(task.agent_name, task.version)}
        return Change(command.task_id, Event.RELEASE, command.fence, data=data, values=values)
    releases = 0 if gets_on else task.releases + 1
    if releases <= MOST_RELEASES:
        values = back_to_queue(tx) | {"releases": releases}
        return Change(command.task_id, Event.RELEASE, command.fence, data=data, values=values)
    failure = Failure(
        "no_progress",
        f"Workers handed this run back {releases} times without a finished step in between (the last time: "
        f"{command.reason}). See the workers' logs.",
        Cause.INFRASTRUCTURE,
    )
    error = failure.to_json(command.fence.attempt)
    return Change(command.task_id, Event.FAIL, command.fence, data={"error": error}, values={"error": error})
