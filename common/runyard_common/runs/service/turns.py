"""Turns: which pending tasks a claim takes, fairly between lanes, at a cost that follows from what it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import lanes, pending
from runyard_common.runs.queries.pending import Having, Look
from runyard_common.runs.rules.fairness import LaneClock, Place, order, system_time, turns_of
from runyard_common.runs.rules.tasks import Task


@dataclass(slots=True)
class _Deal:
    """Free slots, and the tasks that they were given to."""

    tx: Tx
    slots: int
    having: Having
    chosen: dict[str, Task] = field(default_factory=dict)
    served: Counter[str] = field(default_factory=Counter)
    listened: set[str] = field(default_factory=set)

    @property
    def left(self) -> int:
        """Slots that are free still."""
        return self.slots - len(self.chosen)

    def serve(self, turns: Mapping[str, int]) -> set[str]:
        """Lock the next tasks of these lanes; the lanes that had fewer."""
        asked = {lane: count + self.served[lane] for lane, count in turns.items()}
        got: Counter[str] = Counter()
        for task, listened in pending.claimable(self.tx, asked, self.having):
            if task.id not in self.chosen and got[task.lane] < turns[task.lane]:
                self.chosen[task.id] = task
                self.listened |= {task.id} if listened else set()
                got[task.lane] += 1
        self.served += got
        return {lane for lane, count in turns.items() if got[lane] < count}


@dataclass(frozen=True, slots=True)
class Dealt:
    """The tasks that a claim takes, locked; `waiting`: some lane had pending work. `listened` are those whose
    organisations may have endpoints."""

    tasks: list[Task]
    waiting: bool
    listened: AbstractSet[str]


def deal(tx: Tx, slots: int, having: Having, look: Look) -> Dealt:
    """Deal free slots to the lanes that have work, until slots or work run out."""
    window = look.window
    if look.tasks is not None:
        return Dealt(look.tasks, True, look.listened)
    hand = _Deal(tx, slots, having)
    if window.whole:
        place = _deal_by_time(hand, window.clocks, set(window.clocks), window.place.system)
    else:
        place = _deal_around(hand, window)
    # With one lane there is no unfairness: skip the two writes.
    if len(window.clocks) > 1:
        lanes.charge(tx, hand.served, window.place.system, place)
    return Dealt(list(hand.chosen.values()), bool(window.clocks), hand.listened)


def _deal_by_time(hand: _Deal, clocks: Mapping[str, LaneClock], open_: set[str], system: float) -> Place:
    """All lanes are known: the one with the least virtual time is next. Deal until slots or work run out."""
    while hand.left and open_:
        now = {lane: clocks[lane].after(hand.served[lane], system) for lane in open_}
        open_ -= hand.serve(Counter(order(sorted(open_), now, system, hand.left)))
    return Place(system_time(hand.served, clocks, system, sorted(open_)))


def _deal_around(hand: _Deal, window: lanes.Window) -> Place:
    """There are more lanes than one look reads: give each, in the order of the ring, what this round owes it."""
    place = window.place
    seen: dict[str, LaneClock] = {}
    drained: set[str] = set()
    while new := {lane: clock for lane, clock in window.clocks.items() if lane not in seen}:
        seen |= new
        turns, place = turns_of(new, place, hand.left)
        drained |= hand.serve(turns)
        if not hand.left:
            return place
        window = lanes.window(hand.tx.conn, place.passed)
    return _deal_by_time(hand, seen, seen.keys() - drained, place.system)
