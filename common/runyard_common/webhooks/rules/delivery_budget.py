"""How many deliveries may go to whom: budgets that keep slow and failing hosts from delaying the others. Pure.

Hosts are good, new or poor. Each kind has a budget of its own for calls under way at once, so that however
many poor hosts there are, and however long they take to fail, a good one never waits for them. A new host is
called a few times at once until it has answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a process knows of a host."""

    GOOD = "good"  # its last answer came, and soon
    NEW = "new"  # has not answered yet
    POOR = "poor"  # fails, or takes long


#: Calls under way at once in one process, for each kind of host.
BUDGETS: Final[Mapping[Kind, int]] = {Kind.GOOD: 256, Kind.NEW: 64, Kind.POOR: 64}
#: Calls under way at once to one host.
PER_HOST: Final[Mapping[Kind, int]] = {Kind.GOOD: 64, Kind.NEW: 4, Kind.POOR: 2}
#: A host is slow when answers take this long, in seconds.
SLOW: Final = 1.0

#: How far ahead calls are taken, in seconds.
HORIZON: Final = 0.25


@dataclass(frozen=True, slots=True)
class Head:
    """A receiver with pending deliveries. `next_at` is when the first is due, in epoch seconds."""

    receiver: str
    org_id: str
    host: str
    next_at: float

    @property
    def key(self) -> tuple[str, str]:
        """What a circuit breaker is kept for."""
        return self.org_id, self.host


@dataclass(frozen=True, slots=True)
class HostCapacity:
    """A host as a process knows it: its kind, and how many more calls it may get now."""

    kind: Kind
    free: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a process can take on: its hosts, what is left of each budget, receivers that wait until a time."""

    hosts: Mapping[tuple[str, str], HostCapacity] = field(default_factory=dict)
    left: Mapping[Kind, int] = field(default_factory=lambda: dict(BUDGETS))
    paused: Mapping[str, float] = field(default_factory=dict)  # receiver -> epoch seconds


STRANGER: Final = HostCapacity(Kind.NEW, PER_HOST[Kind.NEW])


def share(heads: Sequence[Head], allowance: Allowance, now: float) -> dict[str, int]:
    """How many deliveries to claim for each receiver that is due, in turns, so that none takes a whole budget."""
    left = dict(allowance.left)
    free: dict[tuple[str, str], int] = {}
    due: list[tuple[Head, Kind]] = []
    for head in sorted(heads, key=lambda h: h.next_at):
        if head.next_at > now or allowance.paused.get(head.receiver, 0.0) > now:
            continue
        host = allowance.hosts.get(head.key, STRANGER)
        free[head.key] = host.free
        due.append((head, host.kind))
    wanted: dict[str, int] = {}
    step = 1
    while due:
        open_ = []
        for head, kind in due:
            more = min(step, left[kind], free[head.key])
            if more > 0:
                left[kind] -= more
                free[head.key] -= more
                wanted[head.receiver] = wanted.get(head.receiver, 0) + more
                open_.append((head, kind))
        due, step = open_, step * 2
    return wanted


def pace(paced_until: float | None, per_second: float, now: float, most: int) -> list[float]:
    """When up to `most` calls may begin, in seconds from now: evenly spaced, none later than `HORIZON`."""
    first = max(0.0, (paced_until or 0.0) - now)
    gap = 1.0 / per_second
    return [first + i * gap for i in range(most) if first + i * gap <= HORIZON]
