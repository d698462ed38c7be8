"""Which queued tasks to admit next: those that were under way first, then lane by lane around the ring of each limit.

Chosen without locks: what is chosen is judged again under them (`admissions.admit_tasks`).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import limits, queue_places, queued, waits
from runyard_common.runs.rules.admission import LimitCheck, Usage, free, full_limit
from runyard_common.runs.rules.blocked_by import BlockedBy, Blocker
from runyard_common.runs.rules.fairness import QueuePlace, starts_in
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service.checks import Checks
from runyard_common.schedules.queries import fires

#: Tasks looked at for one limit, at most.
BATCH = 100
#: Lanes that one statement reads, and how many such statements one look makes, at most.
LANES = 64
LOOKS = 16


@dataclass(slots=True)
class Turn:
    """A lane's turn in a round: how many starts it gets, how many of them it was given already."""

    round: int
    lane: str
    starts: int
    given: int

    @property
    def place(self) -> QueuePlace:
        """The place that is reached."""
        return QueuePlace(self.round, self.lane, self.given)


@dataclass(slots=True)
class Chosen:
    """Tasks that a limit lets through next, in order, each with the place that is reached once it was let through."""

    by: BlockedBy
    resume: int
    tasks: list[tuple[Task, QueuePlace]] = field(default_factory=list)
    reached: QueuePlace | None = None  # with all of them; None: the place stays
    more: bool = False  # there may be others, and the limit is not full


class Ring:
    """The lanes that a limit keeps queued, turn by turn from where they were served up to."""

    def __init__(self, tx: Tx, by: BlockedBy, resume: int, checks: Checks, wanted: int) -> None:
        """`wanted` is how many starts the limit has: no more lanes than that are read ahead."""
        self._tx = tx
        self._by = by
        self._resume = resume
        self._checks = checks
        self._most = max(2, min(LANES, wanted + 1))
        self._looks = 0
        self._seen: set[str] = set()
        self._whole = False  # every round so far began at the first lane
        self._tasks: dict[str, deque[Task]] = {}
        self._last: dict[str, Task] = {}
        self._drained: set[str] = set()
        self._wanted = wanted
        self.reached: QueuePlace | None = None

    @property
    def is_single(self) -> bool:
        """Whether there is no more than one lane: it gets everything, and nothing need be noted."""
        return self._whole and len(self._seen) < 2

    @property
    def exhausted(self) -> bool:
        """Whether it gave up before it had met every lane."""
        return self._looks >= LOOKS

    def next_task(self, turn: Turn) -> Task | None:
        """The next task of a lane."""
        waiting = self._tasks.setdefault(turn.lane, deque())
        if not waiting and turn.lane not in self._drained:
            after = self._last.get(turn.lane)
            # The first look takes what the turn needs; where others keep that queued too, the next takes many.
            limit = min(turn.starts - turn.given, self._wanted) if after is None else BATCH
            lane = (turn.lane, self._resume)
            found = queued.blocked(self._tx.conn, self._by, self._tx.now, limit, lane, after)
            waiting.extend(found)
            if len(found) < limit:
                self._drained.add(turn.lane)
        if not waiting:
            return None
        self._last[turn.lane] = waiting[0]
        return waiting.popleft()

    def turns(self) -> Iterator[Turn]:
        """The turns of the lanes, until none has work left."""
        start = queue_places.get(self._tx.conn, self._by, self._resume)
        self._whole = not start.lane
        ring: list[tuple[str, float]] | None = None
        for round_ in itertools.count(start.round):
            first = round_ == start.round
            met: list[tuple[str, float]] = []
            for lane, weight in self._from(start.lane if first else "") if ring is None else ring:
                met.append((lane, weight))
                given = start.given if first and lane == start.lane else 0
                turn = Turn(round_, lane, starts_in(round_, lane, weight), given)
                if turn.given < turn.starts and not self._is_drained(lane):
                    yield turn
                self.reached = turn.place
            if not first or not start.lane:
                ring = met
            if self.exhausted or (ring is not None and all(self._is_drained(lane) for lane, _ in ring)):
                return

    def _is_drained(self, lane: str) -> bool:
        return lane in self._drained and not self._tasks.get(lane)

    def _from(self, start: str) -> Iterator[tuple[str, float]]:
        """The lanes from this one to the last."""
        behind = False
        while not self.exhausted:
            self._looks += 1
            found = queue_places.lanes(self._tx.conn, self._by, self._resume, start, self._most, behind)
            self._seen.update(lane for lane, _ in found)
            self._checks.know(lane for lane, _ in found)  # a lane is an organisation
            yield from found
            if len(found) < self._most:
                return
            start, behind, self._most = found[-1][0], True, LANES


class Choice:
    """Chooses for several limits at once: what one lets start counts for the others too."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._checks = Checks(tx)
        self._usages: dict[str, Usage] = {}
        self._ids: set[str] = set()

    def of(self, blockers: Iterable[BlockedBy]) -> list[Chosen]:
        """What these keep queued and may start now, as far as can be seen, in the order in which to judge it."""
        asked = sorted(set(blockers))
        keys = [by for by in asked if by.kind is Blocker.LIMIT]
        if keys:
            self._checks.know({by.what.partition("|")[0] for by in keys})
            self._know([self._checks.of_limit(by) for by in keys])
        others = [Chosen(by, 0, [(task, QueuePlace()) for task in self._next_of(by)]) for by in asked]
        chosen = []
        for resume in (0, 1):  # runs that were under way go before new ones, whichever limit keeps either
            for other in others:
                its = [(task, place) for task, place in other.tasks if task.resume == resume]
                if its:
                    self._count([task for task, _ in its])
                    chosen.append(Chosen(other.by, resume, its))
            chosen += [self._of_limit(by, resume) for by in keys]
        return chosen

    def _next_of(self, by: BlockedBy) -> list[Task]:
        """What waits for something that is no limit: nothing is shared, so there is no order to keep."""
        match by.kind:
            case Blocker.LIMIT:
                return []
            case Blocker.SCHEDULE:
                return fires.next_queued(self._tx, by.what)
            case Blocker.CHILD:
                single = queued.blocked(self._tx.conn, by, self._tx.now, BATCH)
                return single + waits.after_child(self._tx, by.what)
        return queued.blocked(self._tx.conn, by, self._tx.now, BATCH)

    def _of_limit(self, by: BlockedBy, resume: int) -> Chosen:
        check = self._checks.of_limit(by)
        chosen = Chosen(by, resume)
        wanted = self._free(check)
        if not wanted:
            return chosen
        ring = Ring(self._tx, by, resume, self._checks, wanted)
        for turn in ring.turns():
            while turn.given < turn.starts and self._free(check) and len(chosen.tasks) < BATCH:
                task = ring.next_task(turn)
                if task is None:
                    break
                if task.id in self._ids:
                    continue
                if self._count([task]):
                    turn.given += 1
                chosen.tasks.append((task, turn.place))
            if not self._free(check) or len(chosen.tasks) >= BATCH:
                chosen.reached = None if ring.is_single else turn.place
                chosen.more = self._free(check) > 0
                return chosen
        chosen.reached = None if ring.is_single else ring.reached
        chosen.more = ring.exhausted
        return chosen

    def _free(self, check: LimitCheck) -> int:
        return free(check, self._usages[check.key], BATCH)

    def _count(self, asked: Sequence[Task]) -> int:
        """How many of these may start, which are counted; the others are to be judged too: another limit is full."""
        started = 0
        for task_id, its in self._checks.of_tasks(asked).items():
            self._ids.add(task_id)
            self._know(its)
            if full_limit(its, self._usages, queue_jump=True) is None:
                started += 1
                for check in its:
                    self._usages[check.key] = self._usages[check.key].one_more
        return started

    def _know(self, asked: Iterable[LimitCheck]) -> None:
        new = [check for check in asked if check.key not in self._usages]
        self._usages |= limits.usages(self._tx, new, of_new=False)
