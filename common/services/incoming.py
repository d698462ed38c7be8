"""Messages that users sent to a running task, taken in by the attempt that owns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.domain.errors import RunyardError, StaleFence
from common.domain.tasks import Fence
from common.store import messages
from common.store.transaction import Tx
from common.store.transitions import lock, owns


@dataclass(frozen=True, slots=True)
class Take:
    """An attempt asks for its unread messages."""

    task_id: str
    fence: Fence


def take(tx: Tx, commands: Sequence[Take]) -> list[list[Any] | RunyardError]:
    """The unread messages of each task, marked as read; `StaleFence` for an attempt that is over."""
    heads = lock(tx, (c.task_id for c in commands))
    answers: list[list[Any] | RunyardError] = []
    for c in commands:
        owned = owns(heads.get(c.task_id), c.fence)
        stale = StaleFence(task_id=c.task_id, attempt=c.fence.attempt)
        answers.append(messages.take_unread(tx, c.task_id) if owned else stale)
    return answers
