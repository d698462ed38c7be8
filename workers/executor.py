"""Execute one attempt: prepare, run the agent, classify how it ended, record that. A pipeline of short steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from common.domain.lifecycle import Cause, Outcome
from common.domain.tasks import Failure
from common.services import attempts
from common.services.attempts import Asked
from runyard.errors import AgentError, Cancelled, JournalMismatch
from workers.attempt import Attempt, Ended, Suspended
from workers.failures import classify

logger = structlog.get_logger("runyard.executor")


@dataclass(frozen=True, slots=True)
class Result:
    """What a runner returns: the output, and conversation lines {role, type, content} to keep."""

    output: Any
    lines: tuple[dict[str, Any], ...] = ()


class Runner(Protocol):
    """Runs one kind of agent."""

    def __call__(self, attempt: Attempt) -> Awaitable[Result]:
        """Run the attempt's agent to its end, or raise."""


async def execute(attempt: Attempt, runner: Runner) -> Outcome:
    """Run the attempt and record how it ended. Never raises."""
    ended = await _run(attempt, runner)
    try:
        await _record(attempt, ended)
    except Cancelled:
        return Outcome.STOPPED
    except Exception:
        # The database refused even the failure: the lease runs out and a rescue judges the run.
        logger.exception("An attempt's end could not be recorded", action="record", task=attempt.task.id)
        return Outcome.STOPPED
    return ended.outcome


async def _run(attempt: Attempt, runner: Runner) -> Ended:
    attempt.deadline = _deadline(attempt)
    try:
        async with asyncio.timeout(attempt.deadline - time.time() if attempt.deadline is not None else None):
            result = await runner(attempt)
        _refuse_leftovers(attempt)
        return Ended(Outcome.FINISHED, output=result.output, lines=result.lines)
    except Suspended as left:
        return left.ended
    except TimeoutError as error:
        if attempt.deadline is None or time.time() < attempt.deadline - 0.05:
            return Ended(Outcome.FAILED, failure=classify(error))
        attempt.ended_by = "timeout"
        return Ended(Outcome.FAILED, failure=_out_of_time(attempt))
    except (asyncio.CancelledError, Cancelled):
        return _left(attempt)
    except Exception as error:  # noqa: BLE001 - an agent may raise anything; it is classified
        return Ended(Outcome.FAILED, failure=classify(error), lines=getattr(error, "lines", ()))


def _deadline(attempt: Attempt) -> float | None:
    task = attempt.task
    ends = [] if task.deadline_at is None else [task.deadline_at]
    if task.timeout_s is not None:
        ends.append(time.time() + task.timeout_s)
    return min(ends, default=None)


def _refuse_leftovers(attempt: Attempt) -> None:
    left = attempt.replay.unused()
    if left:
        raise JournalMismatch(
            f"The agent finished without its journaled step {left[0]!r}: its code changed "
            "while this task was under way.",
            journaled=left,
        )


def _out_of_time(attempt: Attempt) -> Failure:
    if attempt.task.timeout_s is not None and attempt.deadline != attempt.task.deadline_at:
        return Failure(
            "timeout", f"The attempt ran longer than {attempt.task.timeout_s:g} s.", Cause.DEADLINE
        )
    return Failure("deadline_exceeded", "The task's deadline passed.", Cause.DEADLINE)


def _left(attempt: Attempt) -> Ended:
    """The attempt was told to leave: by a stop or a lost lease (nothing to write), a drain, or its deadline."""
    if attempt.ended_by == "timeout":
        return Ended(Outcome.FAILED, failure=_out_of_time(attempt))
    if attempt.ended_by in ("stop", "lost"):
        return Ended(Outcome.STOPPED)
    step = attempt.replay.open_irreversible
    if step is not None:
        return Ended(Outcome.NEEDS_REVIEW, asked=(_unknown_outcome(attempt, step),))
    return Ended(Outcome.HANDED_OVER)


def _unknown_outcome(attempt: Attempt, step: str) -> Asked:
    entry = attempt.replay.entry(step) or {}
    return Asked(
        f"{step}!{attempt.number}",
        "review",
        {
            "kind": "unknown_outcome",
            "action": step,
            "step": step,
            "arguments": entry.get("detail"),
            "text": f"The worker had to leave while the irreversible step {step!r} was open. Nobody knows whether it "
            "took effect: redo it, skip it with a given result, or fail the run.",
            "decisions": ["redo", "skip", "fail"],
        },
    )


_Record = Callable[[Attempt, Ended], tuple[Any, Any] | None]


async def _record(attempt: Attempt, ended: Ended) -> None:
    task_id, number = attempt.task.id, attempt.number
    match ended.outcome:
        case Outcome.FINISHED:
            title = None if attempt.task.title else _title(ended)
            await attempt.write(
                attempts.finish, attempts.Finish(task_id, number, ended.output, ended.lines, title)
            )
        case Outcome.ASKED | Outcome.NEEDS_REVIEW:
            await attempt.write(attempts.suspend, attempts.Suspend(task_id, number, ended.asked, ended.lines))
        case Outcome.WAITING:
            assert ended.child_id is not None
            await attempt.write(attempts.wait, attempts.Wait(task_id, number, ended.child_id))
        case Outcome.HANDED_OVER:
            await attempt.write(attempts.release, attempts.Release(task_id, number))
        case Outcome.FAILED:
            assert ended.failure is not None
            await attempt.write(attempts.fail, attempts.Fail(task_id, number, ended.failure, ended.lines))
        case Outcome.STOPPED:
            pass


def _title(ended: Ended) -> str | None:
    said = next((line["content"] for line in ended.lines if line["role"] == "user"), None)
    return said[:120] if isinstance(said, str) and said.strip() else None


__all__ = ["AgentError", "Result", "Runner", "execute"]
