"""The life of a task as data: which event moves which state where.

Every change of a task's status in the store is a compare-and-set that names one of these events;
``docs/lifecycle.md`` is checked against this table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from runyard_common.values.errors import IllegalTransition


class Status(StrEnum):
    """The statuses of a task. The last three are terminal, for ever."""

    PENDING = "pending"  # admitted and occupying its slots; any worker may claim it
    QUEUED = "queued"  # kept by admission: a limit, a back-off; or it waits: for children, a time, an event
    RUNNING = "running"  # claimed by one attempt of a worker that holds a lease
    WAITING_FOR_INPUT = "waiting_for_input"  # the agent asked; a message answers
    AWAITING_REVIEW = "awaiting_review"  # a sensitive step waits for a person's decision
    COMPLETED = "completed"  # finished with an output
    FAILED = "failed"  # ended with an error {code, message, cause}
    STOPPED = "stopped"  # cancelled by a user or by the system


class Event(StrEnum):
    """What can happen to a task. The same word names the store function, the log action and the logged event."""

    SUBMIT = "submit"  # accepted, every limit has room
    QUEUE = "hold"  # accepted, a limit is full; logs and webhooks have always called it so
    ADMIT = "admit"  # admission let it through
    CLAIM = "claim"  # a worker took it, a new attempt begins
    ASK = "ask"  # the agent asked its user
    REVIEW = "review"  # the agent, or a crash, needs a person's decision
    ANSWER = "answer"  # the question was answered (or its declared default applied)
    DECIDE = "decide"  # the review was decided
    WAIT = "wait"  # it waits for children, a time or an event, and gives its slot back
    RETRY = "retry"  # the attempt failed, its cause has budget left
    RESCUE = "rescue"  # the worker's lease ran out
    RELEASE = "release"  # a draining worker handed the run back, no budget used
    FINISH = "finish"  # the agent returned its output
    FAIL = "fail"  # the run ended with an error
    EXPIRE = "expire"  # its time to live, deadline or answer deadline passed
    CANCEL = "stop"  # its published name
    COMPENSATE = "compensate"  # fail, expire or stop came for a run that undoes what it did before it ends


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.STOPPED})
ACTIVE: Final = frozenset(Status) - TERMINAL
#: Statuses in which a task counts against its limits.
OCCUPIES_SLOTS: Final = frozenset({Status.PENDING, Status.RUNNING})
#: Statuses that wait for a person and hold no slot, thread or lease.
SUSPENDED: Final = frozenset({Status.WAITING_FOR_INPUT, Status.AWAITING_REVIEW})

#: Events that create a task.
INITIAL: Final[dict[Event, Status]] = {Event.SUBMIT: Status.PENDING, Event.QUEUE: Status.QUEUED}

TRANSITIONS: Final[dict[tuple[Status, Event], Status]] = {
    (Status.QUEUED, Event.ADMIT): Status.PENDING,
    (Status.PENDING, Event.CLAIM): Status.RUNNING,
    (Status.RUNNING, Event.ASK): Status.WAITING_FOR_INPUT,
    (Status.RUNNING, Event.REVIEW): Status.AWAITING_REVIEW,
    (Status.RUNNING, Event.WAIT): Status.QUEUED,
    (Status.RUNNING, Event.RETRY): Status.QUEUED,
    (Status.RUNNING, Event.RESCUE): Status.QUEUED,
    (Status.RUNNING, Event.RELEASE): Status.QUEUED,
    (Status.RUNNING, Event.FINISH): Status.COMPLETED,
    (Status.WAITING_FOR_INPUT, Event.ANSWER): Status.QUEUED,
    (Status.AWAITING_REVIEW, Event.DECIDE): Status.QUEUED,
    **{(status, Event.FAIL): Status.FAILED for status in ACTIVE},
    **{(status, Event.EXPIRE): Status.FAILED for status in ACTIVE},
    **{(status, Event.CANCEL): Status.STOPPED for status in ACTIVE},
    **{(status, Event.COMPENSATE): Status.QUEUED for status in ACTIVE},
}


def apply(status: Status, event: Event) -> Status:
    """The status after `event`, or `IllegalTransition` (code ``illegal_transition``, 409)."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(status=status.value, event=event.value) from None


def sources(event: Event) -> frozenset[Status]:
    """Every status from which `event` is legal: the compare part of the compare-and-set."""
    return frozenset(status for status, e in TRANSITIONS if e is event)


class Outcome(StrEnum):
    """How one attempt ended. A vocabulary of its own: the store maps each to one event."""

    FINISHED = "finished"
    ASKED = "asked"
    NEEDS_REVIEW = "needs_review"
    WAITING = "waiting"  # for child tasks, a time or an event
    HANDED_OVER = "handed_over"  # drain
    FAILED = "failed"  # an error; the retry decision follows
    COMPENSATED = "compensated"  # the compensations are over: the run ends as it was to end
    STOPPED = "stopped"  # the task was cancelled, or the lease was lost: nothing to write


class Cause(StrEnum):
    """The class of an error: whose budget a retry spends and whom to ask."""

    AGENT = "agent"  # the agent's own code or its model's answers
    PROVIDER = "provider"  # a model provider or tool server
    INFRASTRUCTURE = "infrastructure"  # a lost worker, the database, Runyard itself
    INPUT = "input"  # what the caller sent
    LIMIT = "limit"  # a quota, budget or step limit
    DEADLINE = "deadline"  # time ran out
