"""The values that the runs of a session share, as one attempt reads and writes them."""

from __future__ import annotations

from typing import Any

from runyard.errors import AgentError
from runyard_common.runs.rules.journal import Step
from runyard_common.sessions.service import state
from runyard_common.sessions.service.state import Op
from runyard_common.values.errors import Conflict
from runyard_workers.agent_code import values
from runyard_workers.attempts.attempt import Attempt

_LONGEST_NAME = 200  # characters


async def access(attempt: Attempt, op: Op, name: Any, value: Any) -> Any:
    """What an access gives: {there, value?}.

    Raises `AgentError` invalid_call, value_not_json, state_full, session_not_found.
    """
    name = values.name(name, f"ctx.state.{op}")
    call = f"ctx.state.{op} {values.shown(name)}"
    if len(name) > _LONGEST_NAME:
        raise AgentError(
            f"{call}: the name is longer than {_LONGEST_NAME} characters.", code="invalid_call", call=call
        )
    value = values.state(value, call)
    await attempt.ready()
    key = attempt.replay.key(f"state.{op}:{name}")
    entry = await attempt.recall(key, "state")
    if entry is not None:
        return entry.value
    attempt.refuse_drained()
    effect = "read" if op is Op.GET else "idempotent"
    step = attempt.placed(Step(key, "state", name, effect, attempt.concurrently(None)))
    command = state.Access(attempt.task.id, attempt.task.session_id, attempt.fence, step, op, name, value)
    try:
        found = await attempt.write(state.read if op is Op.GET else state.change, command)
    except Conflict as refusal:
        raise AgentError(f"{call}: {refusal.message}", code=refusal.code, call=call) from None
    attempt.replay.remember(step, "done", found)
    return found
