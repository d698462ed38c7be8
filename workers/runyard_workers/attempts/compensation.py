"""Compensation: what an agent has registered with `ctx.on_failure` runs, the last first, before the run ends.

The functions are in the agent's code, which runs again for it. Its journaled calls return what they returned; the first
that has no result on record ends the replay, and so does the last registration that is on record: there the functions
are called, while the code waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from runyard.errors import AgentError
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.endings import REGISTERED, step_of
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.rules.waits import Group
from runyard_common.runs.service import waits
from runyard_common.runs.service.attempts import COMPENSATED
from runyard_workers.agent_code import values
from runyard_workers.agent_code.exceptions import within
from runyard_workers.agent_code.failures import of_agent
from runyard_workers.attempts import compensating
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended
from runyard_workers.attempts.patience import patiently
from runyard_workers.attempts.replay import in_step, inside
from runyard_workers.isolation.threads import in_engine_thread

#: Calls that a compensation may make: the others wait, or begin what would have to be undone.
_ALLOWED = frozenset({"step", "model_turn", "tool_call"})


def refuse_waiting(method: str) -> None:
    """Raise `AgentError` in a compensation that calls what may suspend the run."""
    if compensating.INSIDE.get() and method not in _ALLOWED:
        raise AgentError(
            f"ctx.{method} cannot be called in a compensation: it runs to its end, and may make steps only.",
            code="invalid_call",
            call=f"ctx.{method}",
        )


def refuse_to_wait() -> None:
    """Raise `AgentError` in a compensation that would wait for a person, for an approval or a larger budget."""
    if compensating.INSIDE.get():
        raise AgentError(
            "A compensation cannot wait for a person: it runs to its end. Call the tool without a review.",
            code="invalid_call",
        )


async def register(attempt: Attempt, name: str, call: Callable[[], Awaitable[Any]]) -> None:
    """Put on record that `call` undoes what the run has done; in a run that is undone, call what is on record."""
    if in_step():
        raise AgentError(
            "ctx.on_failure cannot be called inside a step: a finished step is not run again, and its function would "
            "not be found. Call it before the step, or after it.",
            code="invalid_call",
            call="ctx.on_failure",
        )
    await attempt.ready()
    key = attempt.replay.key(f"{REGISTERED}:{name}")
    entry = await attempt.recall(key, REGISTERED)
    found = attempt.compensations
    if found is not None:
        if any(key == left for left, _ in found.left):
            found.calls[key] = call
            if len(found.calls) == len(found.left):
                await _undo(attempt)
    elif entry is None:
        attempt.refuse_drained()
        await attempt.end(Step(key, REGISTERED, name, "read", attempt.concurrently(None)), None)


async def _undo(attempt: Attempt) -> NoReturn:
    """Run what is left, the last first, each as a step."""
    found = attempt.compensations
    assert found is not None
    while found.left:
        await attempt.ready()
        attempt.refuse_drained()
        key, name = found.left[-1]
        step = found.running = attempt.placed(step_of(key, name))
        value = await _done(attempt, step, found.calls[key])
        data = {"name": name, "key": step.key, "outcome": "done"}
        await attempt.end(step, {"outcome": "done", "result": value}, events=((COMPENSATED, data),))
        found.left.pop()
        found.running = None
    raise Suspended(Ended(Outcome.COMPENSATED))


async def _done(attempt: Attempt, step: Step, call: Callable[[], Awaitable[Any]]) -> Any:
    found = attempt.compensations
    assert found is not None
    token = compensating.INSIDE.set(True)
    try:
        with attempt.under_way(step.key), inside(attempt.task.id, step):
            result = await call()
        return await attempt.measured(values.step_result, result, step.name)
    except Exception as error:
        within(error, f"compensation {values.shown(step.name)}")
        found.error = of_agent(error)  # as what the code of a run raises
        found.error.__cause__ = error
        raise
    finally:
        compensating.INSIDE.reset(token)


async def await_children(attempt: Attempt) -> None:
    """Raise `Suspended` until the run's children have ended, which are stopped and undone first."""
    found = attempt.compensations
    assert found is not None
    left = await _children(attempt)
    if left:
        command = waits.StopChildren(
            attempt.task.id, attempt.fence, tuple(left), "what its parent did is undone"
        )
        await attempt.write(waits.stop_children, command)
        left = await _children(attempt)
    if left:
        found.waits = True
        raise Suspended.waiting(Group(children=tuple(left)))


async def _children(attempt: Attempt) -> list[str]:
    def read() -> list[str]:
        with attempt.store.read() as conn:
            return tasks.children(conn, [attempt.task.id])

    return await patiently(lambda: in_engine_thread(read), lambda: attempt.ended_by, attempt.task.id)
