"""Waiting for a task on notifications: a waiter costs a future, never a thread or a polling query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from runyard_api import metrics
from runyard_api.state import State
from runyard_api.task_snapshot import TaskSnapshot, snapshot
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.stream import Events

#: How often a waiter looks even though it heard nothing, in seconds: a lost message costs no more.
LOOK_EVERY: Final = 10.0
_CHANGES: Final = frozenset(event.value for event in Event)


async def until(
    state: State,
    org_id: str,
    task_id: str,
    enough: Callable[[TaskSnapshot], bool],
    seconds: float,
    judged_at: int | None = None,
) -> TaskSnapshot:
    """The task once `enough` holds, or as it is after `seconds`; errors and `judged_at`: see `snapshot`.

    A process that is asked to stop answers at once with what it knows.
    """
    first = await snapshot(state, org_id, task_id, judged_at)
    if seconds <= 0 or enough(first):
        return first
    metrics.WAITERS.inc()
    try:
        with state.open_calls.count(org_id):
            return await _follow(state, org_id, task_id, enough, seconds)
    finally:
        metrics.WAITERS.dec()


async def _follow(
    state: State, org_id: str, task_id: str, enough: Callable[[TaskSnapshot], bool], seconds: float
) -> TaskSnapshot:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    with state.follower.follow(org_id, task_id, limit=8) as heard:
        while True:
            now = await snapshot(state, org_id, task_id)
            if enough(now):
                return now
            while True:
                left = end - loop.time()
                if left <= 0 or state.stopping.is_set():
                    return now
                item = await heard.next(min(left, LOOK_EVERY))
                if not isinstance(item, Events) or any(e["type"] in _CHANGES for e in item.events):
                    break
