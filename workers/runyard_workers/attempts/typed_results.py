"""What the calls of a context give back as values of a type, in a replay as live: made from the JSON form each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from runyard.json_types import DoesNotFit, Typed
from runyard_workers.agent_code import result_types, values
from runyard_workers.agent_code.result_types import misfit
from runyard_workers.attempts import user_code
from runyard_workers.attempts.attempt import Attempt


async def restored(attempt: Attempt, kind: Typed[Any] | None, value: Any, call: str, code: str) -> Any:
    """The value of the type whose JSON form this is. Raises `AgentError` with `code` where there is none."""
    if kind is None or kind.is_itself(value):
        return value
    # What a type is made of (validators of a model, say) is the author's code.
    restore = kind.restore if values.is_large(value) else _coroutine(kind.restore)
    try:
        return await user_code.call(attempt, restore, value)
    except DoesNotFit as error:
        raise misfit(error, kind, call, code) from None


async def restored_each(
    attempt: Attempt, kind: Typed[Any] | None, outputs: list[Any], call: str
) -> list[Any]:
    """As `restored`, for what many children have given; failures among them stay."""
    if kind is None or result_types.are_themselves(kind, outputs):
        return outputs
    restore = partial(result_types.restored_each, kind)
    try:
        found = await user_code.call(
            attempt, restore if values.is_large(outputs) else _coroutine(restore), outputs
        )
    except DoesNotFit as error:
        raise misfit(error, kind, call, "invalid_result") from None
    return list(found)


def _coroutine(fn: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
    async def restore(value: Any) -> Any:
        return fn(value)

    return restore
