"""Adding up what runs did: minute by minute from their own tables, and from there by longer spans.

No run writes a number: it pays nothing for being counted. A minute is summed from the rows themselves, and only what
its sums lack is added to those of its ten minutes, hour and day, all in one transaction. So

- nothing is counted twice: a minute that is looked at again, by this scheduler or another, lacks nothing; and a
  scheduler that has read by a revision of the progress that is no longer the last writes nothing;
- what is committed late is not missed: minutes are looked at again in each round for `FRESH` seconds, and once more
  when they are `SETTLED` seconds old, which no transaction lasts;
- what is pruned meanwhile stays counted: a minute that has fewer rows than were summed is left as it is (so is one that
  has others besides, ended after some of the same minute were deleted).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from runyard_common.database.engine import Durability
from runyard_common.database.transaction import Store, Tx
from runyard_common.statistics.queries import history, samples, sums
from runyard_common.statistics.queries.history import Breakdown
from runyard_common.statistics.queries.sums import INSTALLATION, Key, Progress
from runyard_common.statistics.rules import (
    COMPARED,
    DAY,
    HOUR,
    KEPT,
    MINUTE,
    MOST,
    OTHERS,
    RUNS,
    STEPS,
    Sums,
    difference,
)
from runyard_common.tables.query import QueueSample, Statistic

#: Minutes are looked at in every round until they ended so long ago, in seconds, and for the last time when they are
#: as old as the second.
FRESH: Final = 3 * MINUTE
SETTLED: Final = HOUR
#: Spans looked at in one round, and runs and turns, or sums to write, after which it looks at no further one: on SQLite
#: other writers wait while these are written.
LOOKS: Final = 60
ROWS: Final = 20_000
CHANGES: Final = 1_000
#: Runs and turns of a span that is longer than a minute, at most.
MANY: Final = 400
#: How far back the runs are counted that there were before anything was, in seconds.
_HISTORY: Final = 100 * DAY
_FORGOTTEN: Final = 2_000


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did: minutes with something new, and whether there is more to do at once."""

    changed: int
    behind: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What the sums lack, and how far they have got with it."""

    changes: dict[Key, Sums]
    after: Progress
    changed: int
    sample: samples.Sample | None


def roll_up(store: Store, now: float | None = None) -> Round:
    """Look at the minutes that may have something new, and sample the queue once a minute."""
    with store.read() as conn:
        at = store.db.now(conn) if now is None else now
        before = sums.progress(conn)
        found = _look(conn, before or _first(conn, at), at)
    behind = found.after.counted < at - FRESH - MINUTE or found.after.settled < at - SETTLED - MINUTE
    if found.after == before and not found.changes:
        return Round(0, behind)
    with store.begin(Durability.NONE) as tx:
        if now is not None:
            tx.now = now
        if not sums.advance(tx, before, found.after):
            return Round(0, False)  # another scheduler has counted meanwhile
        sums.add(tx, found.changes)
        if found.sample is not None:
            samples.add(tx, found.sample, found.after.sampled)
        behind |= _forget(tx, at, found.after.settled) >= _FORGOTTEN
    return Round(found.changed, behind)


def _forget(tx: Tx, now: float, settled: int) -> int:
    """Delete what is kept no longer; how many rows. Minutes that are still to be looked at are kept."""
    return sum(
        sums.forget(tx, table, step, min(now - kept, settled), _FORGOTTEN)
        for step, kept in KEPT.items()
        for table in (Statistic, QueueSample)
    )


def _first(conn: Connection, now: float) -> Progress:
    """Before the first time: the oldest run is where it begins."""
    oldest = history.oldest(conn)
    start = _minute(now if oldest is None else max(min(oldest, now), now - _HISTORY))
    return Progress(0, start, start, 0, now)


def _minute(at: float) -> int:
    return int(at) - int(at) % MINUTE


def _look(conn: Connection, progress: Progress, now: float) -> _Found:
    changes: dict[Key, Sums] = defaultdict(Counter)
    # Each minute for the first time and again while it is fresh; then those that are old enough for the last time.
    first, changed, rows = _pass(conn, changes, progress.counted, _minute(now) + MINUTE, ROWS)
    counted = max(progress.counted, min(first, _minute(now - FRESH)))
    until = min(progress.counted, _minute(now - SETTLED))
    settled, again, _ = _pass(conn, changes, progress.settled, until, ROWS - rows)
    minute = _minute(now)
    sample = samples.of_now(conn, now) if minute > progress.sampled else None
    after = replace(progress, counted=counted, settled=max(progress.settled, settled), sampled=minute)
    return _Found(
        {key: of for key, of in changes.items() if any(of.values())}, after, changed + again, sample
    )


def _pass(
    conn: Connection, changes: dict[Key, Sums], since: int, until: int, rows: int
) -> tuple[int, int, int]:
    """Look at minutes from `since` on; the first that it did not look at, how many spans had something new, and how
    many rows there were in these. Spans get longer where there is little, and shorter where there is much."""
    changed = seen = looks = 0
    at, length = since, MINUTE
    while at < until and seen <= rows and looks < LOOKS and len(changes) < CHANGES:
        end = min(at + length, until)
        numbers = history.numbers(conn, at, end)
        summed = sums.minute_totals(conn, at, end)
        more = [org_id for org_id, of in numbers.items() if _lacks(summed.get(org_id, Counter()), of)]
        new = sum(numbers[org_id].total() for org_id in more)
        looks += 1
        if new > MANY and end > at + MINUTE:
            length = max(MINUTE, (end - at) // MINUTE // 2 * MINUTE)
            continue
        if more:
            _compare(conn, changes, more, at, end)
            changed += 1
            seen += new
        if new < MANY // 4:
            length *= 2
        at = end
    return at, changed, seen


def _lacks(summed: Sums, found: Sums) -> bool:
    """Whether a span has something that was not summed. One that has less of anything was pruned."""
    return any(found[name] > summed[name] for name in COMPARED) and all(
        found[name] >= summed[name] for name in COMPARED
    )


def _compare(conn: Connection, changes: dict[Key, Sums], org_ids: list[str], since: int, until: int) -> None:
    """Add to `changes` what the sums of these organisations' minutes lack, for the spans of each length."""
    stored: dict[tuple[str, int], dict[Key, Sums]] = defaultdict(dict)
    for key, of in sums.of_span(conn, org_ids, since, until).items():
        stored[key.org_id, key.at][key] = of
    for (org_id, minute), found in history.of_span(conn, org_ids, since, until).items():
        before = stored[org_id, minute]
        if _lacks(before.get(Key(org_id, "", MINUTE, minute, ""), Counter()), found["", ""]):
            _add_difference(changes, org_id, minute, before, found)


def _add_difference(
    changes: dict[Key, Sums], org_id: str, minute: int, stored: dict[Key, Sums], found: Breakdown
) -> None:
    new = {Key(org_id, kind, MINUTE, minute, name): of for (kind, name), of in _bounded(found).items()}
    for key in stored.keys() | new.keys():
        lacking = difference(new.get(key, Counter()), stored.get(key, Counter()))
        if not lacking:
            continue
        for step in STEPS:
            span = replace(key, step=step, at=minute - minute % step)
            for changed in (span, *_of_installation(span)):
                changes[changed].update(lacking)


def _of_installation(span: Key) -> list[Key]:
    """Whose sums an organisation's own are part of."""
    whole = replace(span, org_id=INSTALLATION)
    if span.kind == "":
        return [whole, replace(whole, kind="organisation", name=span.org_id)]
    return [whole] if span.kind == "model" else []


def _bounded(breakdown: Breakdown) -> Breakdown:
    """The sums, with those of the agents, keys and end users that did the least in one where there are too many."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for kind, name in breakdown:
        by_kind[kind].append(name)
    many = {kind: names for kind, names in by_kind.items() if len(names) > MOST}
    bounded = {key: of for key, of in breakdown.items() if key[0] not in many}
    for kind, names in many.items():
        ordered = sorted(names, key=lambda name: (-_weight(breakdown[kind, name]), name))
        bounded |= {(kind, name): breakdown[kind, name] for name in ordered[:MOST]}
        others: Sums = Counter()
        for name in ordered[MOST:]:
            others.update(breakdown[kind, name])
        bounded[kind, OTHERS] = others
    return bounded


def _weight(of: Mapping[str, int]) -> int:
    return sum(of.get(name, 0) for name in (*RUNS, "turns"))
