"""What keeps a task in `queued`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Blocker(StrEnum):
    """The kinds of what keeps a task queued."""

    LIMIT = "limit"  # one that is full
    RETRY = "retry"  # the back-off before its next attempt
    RESUME = "resume"  # it was answered or handed back, and its limits are still to be looked at
    CHILD = "child"  # a child task that it waits for
    CHILDREN = "children"  # several of them, or one and a time
    EVENT = "event"  # an event from outside, alone or with others of these
    SLEEP = "sleep"  # a time
    SCHEDULE = "schedule"  # an earlier run of its schedule
    PREFLIGHT = "preflight"  # it is stored only to be failed


_BY_STORED = {blocker.value: blocker for blocker in Blocker if blocker is not Blocker.LIMIT}


@dataclass(frozen=True, slots=True, order=True)
class BlockedBy:
    """What keeps a task queued; `what` is the key of the limit, or the id of the child or schedule."""

    kind: Blocker
    what: str = ""

    @staticmethod
    def limit(key: str) -> BlockedBy:
        """A full limit."""
        return BlockedBy(Blocker.LIMIT, key)

    @staticmethod
    def child(task_id: str) -> BlockedBy:
        """A child task."""
        return BlockedBy(Blocker.CHILD, task_id)

    @staticmethod
    def schedule(schedule_id: str) -> BlockedBy:
        """An earlier run of the same schedule."""
        return BlockedBy(Blocker.SCHEDULE, schedule_id)

    @staticmethod
    def parse(stored: str) -> BlockedBy:
        """The value of its stored form. Keys of limits are stored as they are; they begin with their scope."""
        word, _, what = stored.partition(":")
        kind = _BY_STORED.get(word)
        return BlockedBy.limit(stored) if kind is None else BlockedBy(kind, what)

    @property
    def stored(self) -> str:
        """Its form in the database."""
        if self.kind is Blocker.LIMIT:
            return self.what
        return f"{self.kind}:{self.what}" if self.what else self.kind.value

    @property
    def label(self) -> str:
        """As callers see it: a limit without its scope, ``agent:@demo/echo``."""
        return self.stored.split("|", 1)[-1]


RETRY = BlockedBy(Blocker.RETRY)
RESUME = BlockedBy(Blocker.RESUME)
PREFLIGHT = BlockedBy(Blocker.PREFLIGHT)
CHILDREN = BlockedBy(Blocker.CHILDREN)
EVENT = BlockedBy(Blocker.EVENT)
SLEEP = BlockedBy(Blocker.SLEEP)
