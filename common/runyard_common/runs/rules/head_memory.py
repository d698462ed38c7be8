"""What a process remembers of the runs that it owns: how its last transaction left each of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Head

#: The most runs that are remembered, the latest ones.
MOST: Final = 4096


class HeadMemory:
    """Heads of running tasks, by id. Safe to use from any thread.

    Others write to a task, too: who goes by a remembered head has the database check that the task still is so.
    """

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}

    def heads(self, task_ids: Iterable[str]) -> dict[str, Head] | None:
        """The heads of these tasks, if all of them are remembered."""
        known = self._heads
        found = {task_id: known.get(task_id) for task_id in task_ids}
        return None if None in found.values() else found  # type: ignore[return-value]

    def keep(self, heads: Iterable[Head]) -> None:
        """Remember these heads, which a transaction has left so; forget the tasks that run no more."""
        for head in heads:
            before = self._heads.pop(head.id, None)
            if head.status is not Status.RUNNING:
                continue
            # Not every transaction looks for endpoints; the database checks what is remembered of them, too.
            unchecked = head.listened and before is not None and not before.listened
            self._heads[head.id] = replace(head, listened=False) if unchecked else head
        while len(self._heads) > MOST:
            self._heads.pop(next(iter(self._heads)), None)

    def forget(self, task_ids: Iterable[str]) -> None:
        """Remember nothing of these tasks."""
        for task_id in task_ids:
            self._heads.pop(task_id, None)
