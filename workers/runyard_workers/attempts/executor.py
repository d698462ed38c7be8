"""Execute one attempt: prepare, run the agent, classify how it ended, record that. A pipeline of short steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import structlog

from runyard.errors import Cancelled, JournalMismatch
from runyard_common.database.rows import OrgScope
from runyard_common.runs.rules.lifecycle import Cause, Outcome
from runyard_common.runs.rules.suspicion import Suspicion
from runyard_common.runs.rules.tasks import Failure
from runyard_common.runs.service import attempts, rebinds, rescues, waits
from runyard_common.runs.service.attempts import Asked
from runyard_common.sessions.rules import Line
from runyard_workers.agent_code import values
from runyard_workers.agent_code.exceptions import failed_step
from runyard_workers.attempts import spans
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended
from runyard_workers.attempts.compensating import LONGEST, Compensations
from runyard_workers.attempts.failures import classify
from runyard_workers.attempts.interruptions import STALLED
from runyard_workers.isolation import descriptors
from runyard_workers.isolation.threads import in_engine_thread

logger = structlog.get_logger("runyard.executor")


@dataclass(frozen=True, slots=True)
class Result:
    """What a runner returns: the output, and conversation lines to keep."""

    output: Any
    lines: tuple[Line, ...] = ()


class Runner(Protocol):
    """Runs one kind of agent."""

    def __call__(self, attempt: Attempt) -> Awaitable[Result]:
        """Run the attempt's agent to its end, or raise."""


async def execute(attempt: Attempt, runner: Runner) -> Outcome:
    """Run the attempt and record how it ended. Never raises."""
    with spans.of_attempt(attempt.claimed, attempt.now()) as span:
        ended = await _ended(attempt, runner)
        spans.end(span, attempt.ended_by, ended.outcome, ended.failure, ended.asked)
        return ended.outcome


async def _ended(attempt: Attempt, runner: Runner) -> Ended:
    ended = await _run(attempt, runner)
    if ended.failure is not None and ended.failure.code == JournalMismatch.code:
        ended = replace(ended, failure=await _with_versions(attempt, ended.failure))
    try:
        try:
            await _record(attempt, ended)
        except Exception as error:
            # The database is there and refuses what was to be stored; that it can store a plain failure.
            logger.exception("An attempt's end could not be stored", action="record", task=attempt.task.id)
            failure = _unstorable(ended, error)
            ended = Ended(Outcome.FAILED, failure=failure, compensation=ended.compensation)
            await _record(attempt, ended)
    except Cancelled:
        return Ended(Outcome.STOPPED)
    except Exception:
        # A heartbeat will find a task without a run and hand it back, not more often than the bound for that.
        logger.exception("An attempt's failure could not be stored", action="record", task=attempt.task.id)
        return Ended(Outcome.STOPPED)
    return ended


async def _run(attempt: Attempt, runner: Runner) -> Ended:
    if attempt.compensations is not None and not attempt.compensations.left:
        return Ended(Outcome.COMPENSATED)
    seconds = _seconds_left(attempt)
    limit = None if seconds is None else asyncio.timeout(seconds)
    attempt.interruptions.begin(limit)
    try:
        result = await (runner(attempt) if limit is None else _within(limit, runner(attempt)))
        if attempt.compensations is not None:
            return _undone(attempt, attempt.compensations, None)
        _refuse_leftovers(attempt)
        return Ended(Outcome.FINISHED, output=result.output, lines=result.lines)
    except Suspended as left:
        if attempt.compensations is not None:
            return _undone(attempt, attempt.compensations, left)
        return _within_bounds(attempt, left.ended)
    except BaseException as error:  # noqa: BLE001 - an agent may raise anything, and on its way out too
        if limit is not None and limit.expired() and attempt.ended_by is None:
            attempt.leave("timeout")
        if attempt.ended_by is None and _starved(attempt, error):
            attempt.starved = True
            attempt.leave("drain")
        if attempt.compensations is not None:
            return _undone(attempt, attempt.compensations, error)
        return _left(attempt) if attempt.ended_by is not None else _failed_in(attempt, error)
    finally:
        attempt.interruptions.end()


def _undone(attempt: Attempt, found: Compensations, error: BaseException | None) -> Ended:
    """How the attempt at a run ends that is undone. A failure is put down to one compensation."""
    if attempt.ended_by is not None and (found.left or attempt.ended_by in ("lost", "drain")):
        ended = _left(attempt)
    elif isinstance(error, Suspended) and (found.waits or error.ended.outcome is Outcome.HANDED_OVER):
        ended = error.ended
    elif not found.left:
        ended = Ended(Outcome.COMPENSATED)
    elif found.error is not None:
        ended = _failed_in(attempt, found.error)
    elif found.running is not None and isinstance(error, Exception):  # its process has ended
        ended = _failed_in(attempt, error)
    else:
        if isinstance(error, Exception):
            _failed_in(attempt, error)  # for the log: what kept the code from getting there
        ended = _failed(
            JournalMismatch(
                f"The compensation {found.left[-1][1]!r} was not reached: the agent's code changed while this task was "
                "under way, or does not do the same again.",
                step=found.left[-1][0],
            )
        )
    return replace(ended, compensation=found.failed) if ended.outcome is Outcome.FAILED else ended


async def _within(limit: asyncio.Timeout, work: Awaitable[Result]) -> Result:
    async with limit:
        return await work


def _within_bounds(attempt: Attempt, ended: Ended) -> Ended:
    """What a run asks, or the failure of one that asks too much. What the engine asks does not count."""
    more = sum("!" not in asked.key for asked in ended.asked)
    before = sum(not question.by_engine for question in attempt.claimed.answers)
    refusal = values.too_many_questions(before, more, attempt.bounds) if more else None
    return ended if refusal is None else _failed(refusal)


def _starved(attempt: Attempt, error: BaseException) -> bool:
    """Whether it met that no file descriptor is left, in a process where that may be a neighbour's doing."""
    return attempt.task.suspicion < Suspicion.ISOLATED and descriptors.is_exhaustion(error)


def _seconds_left(attempt: Attempt) -> float | None:
    """What the attempt may take, counted from its claim on the database's clock; sets its deadline."""
    task = attempt.task
    now = attempt.claimed.at or task.updated_at
    ends = [] if task.deadline_at is None else [task.deadline_at]
    if task.timeout_s is not None:
        ends.append(now + task.timeout_s)
    elif attempt.compensations is not None:
        ends.append(now + LONGEST)
    attempt.deadline = min(ends, default=None)
    if attempt.deadline is None:
        return None
    attempt.ends_at = time.monotonic() + attempt.deadline - now
    return attempt.deadline - now


def _failed_in(attempt: Attempt, error: BaseException) -> Ended:
    """The failure, for the log with the traceback of the agent's code, for the run only if that is its own."""
    ended = replace(attempt.redact(_failed(error)), step=failed_step(error))
    failure = ended.failure
    if failure is None or not failure.traceback:
        return ended
    task = attempt.task
    logger.warning(
        "An agent's code failed", action="fail", task=task.id, agent=task.agent_name, version=task.version,
        attempt=attempt.number, code=failure.code, exception=failure.traceback,
    )  # fmt: skip
    return ended if attempt.own_agent else replace(ended, failure=replace(failure, traceback=""))


def _failed(error: BaseException) -> Ended:
    return Ended(Outcome.FAILED, failure=classify(error))


def _unstorable(ended: Ended, error: BaseException) -> Failure:
    why = type(getattr(error, "orig", None) or error).__name__
    return Failure(
        "end_not_storable",
        f"The run ended ({ended.outcome.value}), but its result could not be stored ({why}). "
        "See the worker's log.",
        Cause.AGENT,
    )


def _refuse_leftovers(attempt: Attempt) -> None:
    left = attempt.unused()
    if left:
        raise JournalMismatch(
            f"The agent finished without its journaled step {left[0]!r}: its code changed "
            "while this task was under way.",
            journaled=left,
        )


async def _with_versions(attempt: Attempt, failure: Failure) -> Failure:
    """The failure of code that does not fit its run's journal, with both versions where another one began the run."""
    task = attempt.task

    def read() -> str | None:
        with attempt.store.read() as conn:
            return rebinds.began_with(OrgScope(conn, task.org_id), task.id)

    try:
        began_with = await in_engine_thread(read)
    except Exception as error:  # noqa: BLE001 - the failure itself is stored
        logger.warning(
            "A run's first version is not known", action="fail", task=task.id, error=str(error)[:200]
        )
        return failure
    if began_with is None:
        return failure
    message = (
        f"{failure.message} The run began with version {began_with}, and version {task.version} resumes it."
    )
    details = {**(failure.details or {}), "began_with": began_with, "version": task.version}
    return replace(failure, message=message, details=details)


def out_of_time(attempt: Attempt) -> Failure:
    """The failure of an attempt that ran past its deadline."""
    if attempt.task.timeout_s is not None and attempt.deadline != attempt.task.deadline_at:
        return Failure(
            "timeout", f"The attempt ran longer than {attempt.task.timeout_s:g} s.", Cause.DEADLINE
        )
    return Failure("deadline_exceeded", "The task's deadline passed.", Cause.DEADLINE)


_STALLED: Final = Failure(
    "heartbeat_missed",
    "The agent's code did not call ctx.heartbeat again within the time that it named.",
    Cause.AGENT,
    True,
)


def _left(attempt: Attempt) -> Ended:
    """The attempt had to leave: cancelled or its lease lost (nothing to write), drained, or out of time."""
    if attempt.ended_by == "timeout":
        return Ended(Outcome.FAILED, failure=out_of_time(attempt))
    if attempt.ended_by == STALLED:
        return Ended(Outcome.FAILED, failure=_STALLED)
    if attempt.ended_by in ("cancel", "lost"):
        return Ended(Outcome.STOPPED)
    step = attempt.replay.open_irreversible
    if step is not None and attempt.compensations is None:
        return Ended(Outcome.NEEDS_REVIEW, asked=(_unknown_outcome(attempt, step),))
    return Ended(Outcome.HANDED_OVER)


def _unknown_outcome(attempt: Attempt, step: str) -> Asked:
    entry = attempt.replay.entry(step)
    return Asked(
        f"{step}!{attempt.number}",
        "review",
        {
            "kind": "unknown_outcome",
            "action": step,
            "step": step,
            "arguments": entry.detail if entry is not None else None,
            "text": f"The worker had to leave while the irreversible step {step!r} was open. It is not known "
            "whether it took effect: redo it, skip it with a given result, or fail the run.",
            "decisions": ["redo", "skip", "fail"],
        },
    )


async def _record(attempt: Attempt, ended: Ended) -> None:
    task_id, fence = attempt.task.id, attempt.fence
    match ended.outcome:
        case Outcome.FINISHED:
            title = None if attempt.task.title else _title(ended)
            await attempt.end_with(
                attempts.finish, attempts.Finish(task_id, fence, ended.output, ended.lines, title)
            )
        case Outcome.ASKED | Outcome.NEEDS_REVIEW:
            await attempt.end_with(
                attempts.suspend, attempts.Suspend(task_id, fence, ended.asked, ended.lines)
            )
        case Outcome.WAITING:
            children = any(group.children for group in ended.groups)
            wait = waits.wait_for_children if children else waits.wait
            await attempt.end_with(wait, waits.Wait(task_id, fence, ended.groups))
        case Outcome.HANDED_OVER:
            batch = rescues.suspect if attempt.starved else attempts.release
            await attempt.end_with(batch, attempts.Release(task_id, fence, ended.reason))
        case Outcome.FAILED:
            assert ended.failure is not None
            compensation = None if ended.compensation is None else attempt.placed(ended.compensation)
            command = attempts.Fail(task_id, fence, ended.failure, ended.lines, compensation, step=ended.step)
            await attempt.end_with(attempts.fail, command)
        case Outcome.COMPENSATED:
            await attempt.end_with(attempts.end, attempts.End(task_id, fence))
        case Outcome.STOPPED:
            pass


def _title(ended: Ended) -> str | None:
    text = next((line.content for line in ended.lines if line.role == "user"), None)
    return text[:120] if isinstance(text, str) and text.strip() else None
