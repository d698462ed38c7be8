"""The sums that are kept, how far they have got, and what is read of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.statistics.rules import COLUMNS, COMPARED, MINUTE, Sums, added
from runyard_common.tables.query import Agent, ApiKey, EndUser, Organisation, Statistic, StatisticsProgress

#: The organisation that has the sums of all.
INSTALLATION: Final = "*"
_PROGRESS: Final = "1"
_AT_ONCE: Final = 150  # rows looked up or written by one statement


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the sums have got, in epoch seconds that are whole minutes; `at` is an instant."""

    revision: int
    counted: int
    settled: int
    sampled: int
    at: float


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What the sums of a row are of."""

    org_id: str
    kind: str
    step: int
    at: int
    name: str


_KEY = [getattr(Statistic, name) for name in ("org_id", "kind", "step", "at", "name")]
_COUNTS = [getattr(Statistic, name) for name in COLUMNS]


def progress(conn: Connection) -> Progress | None:
    """How far the sums have got; None before the first time."""
    columns = rows.columns(Progress, StatisticsProgress)
    return rows.first(conn, select(*columns).where(StatisticsProgress.id == _PROGRESS), Progress)


def advance(tx: Tx, before: Progress | None, after: Progress) -> bool:
    """Put `after` in the place of `before`; whether it was that still: if not, another scheduler has counted."""
    values = rows.values(replace(after, revision=0 if before is None else before.revision + 1, at=tx.now))
    table = StatisticsProgress.__table__
    change: Any  # by its answer, not its row count: one of the drivers has none for an INSERT that found a conflict
    if before is None:
        change = rows.insert(tx.db.is_postgres, table).values(id=_PROGRESS, **values).on_conflict_do_nothing()
    else:
        mine = StatisticsProgress.id == _PROGRESS, StatisticsProgress.revision == before.revision
        change = update(StatisticsProgress).where(*mine).values(values)
    return tx.conn.execute(change.returning(table.c.id)).first() is not None


def minute_totals(conn: Connection, since: int, until: int) -> dict[str, Sums]:
    """What is summed of the minutes of a span that `history.numbers` has too, by organisation."""
    totals = [func.sum(getattr(Statistic, name)).label(name) for name in COMPARED]
    mine = Statistic.step == MINUTE, Statistic.at >= since, Statistic.at < until, Statistic.kind == ""
    query = select(Statistic.org_id, *totals).where(*mine).group_by(Statistic.org_id)
    return {
        row.org_id: Counter({name: int(getattr(row, name)) for name in COMPARED})
        for row in conn.execute(query)
    }


def of_span(conn: Connection, org_ids: Iterable[str], since: int, until: int) -> dict[Key, Sums]:
    """All that is summed of these organisations' minutes in a span."""
    found: dict[Key, Sums] = {}
    for some in _batches(sorted(org_ids)):
        mine = (
            Statistic.step == MINUTE,
            Statistic.at >= since,
            Statistic.at < until,
            Statistic.org_id.in_(some),
        )
        found |= _by_key(conn, select(*_KEY, *_COUNTS, Statistic.distributions).where(*mine))
    return found


def add(tx: Tx, changes: Mapping[Key, Sums]) -> None:
    """Add to the sums. The caller has advanced the progress, so that no other does it at once."""
    for some in _batches(sorted(changes)):
        keys = [(key.org_id, key.kind, key.step, key.at, key.name) for key in some]
        query = select(*_KEY, *_COUNTS, Statistic.distributions).where(tuple_(*_KEY).in_(keys))
        stored = _by_key(tx.conn, query)
        if stored:
            tx.conn.execute(delete(Statistic).where(tuple_(*_KEY).in_(keys)))
        new = {key: added([stored.get(key, Counter()), changes[key]]) for key in some}
        if changed := [_row(key, of) for key, of in new.items() if any(of.values())]:
            tx.conn.execute(insert(Statistic.__table__), changed)


def _row(key: Key, sums: Sums) -> dict[str, Any]:
    rest = {name: count for name, count in sums.items() if name not in COLUMNS and count}
    return rows.values(key) | {name: sums[name] for name in COLUMNS} | {"distributions": rest or None}


def _by_key(conn: Connection, query: Any) -> dict[Key, Sums]:
    found = {}
    for row in conn.execute(query):
        key = Key(row.org_id, row.kind, row.step, row.at, row.name)
        found[key] = _sums(row)
    return found


def _sums(row: Any) -> Sums:
    return Counter({name: int(getattr(row, name) or 0) for name in COLUMNS} | (row.distributions or {}))


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some


def forget(tx: Tx, table: Any, step: int, before: float, most: int) -> int:
    """Delete rows of spans of this length that began before an instant, the oldest; about `most`."""
    query = select(table.at).where(table.step == step, table.at < before).order_by(table.at).limit(most)
    old = list(tx.conn.execute(query).scalars())
    if not old:
        return 0
    done = tx.conn.execute(delete(table).where(table.step == step, table.at <= old[-1]))
    return int(done.rowcount)


def series(conn: Connection, org_id: str, step: int, since: int, until: int) -> dict[int, Sums]:
    """An organisation's sums by the beginnings of the spans of this length."""
    mine = Statistic.org_id == org_id, Statistic.kind == "", Statistic.step == step
    query = select(Statistic.at, *_COUNTS, Statistic.distributions).where(
        *mine, Statistic.at >= since, Statistic.at < until
    )
    return {row.at: _sums(row) for row in conn.execute(query)}


_NAMED: Final[dict[str, Any]] = {
    "agent": (Agent.id, Agent.name),
    "key": (ApiKey.id, ApiKey.name),
    "end_user": (EndUser.id, func.coalesce(EndUser.name, EndUser.external_id)),
    "organisation": (Organisation.id, Organisation.name),
}


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of one agent, key, end user or model, without distributions."""

    id: str
    name: str | None
    sums: Sums


def groups(
    conn: Connection, org_id: str, kind: str, step: int, since: int, until: int, limit: int
) -> list[Group]:
    """The sums of a span by agent, key, end user or model: the costliest first, then those with the most runs."""
    totals = [func.sum(column).label(name) for name, column in zip(COLUMNS, _COUNTS, strict=True)]
    costly = (func.sum(Statistic.cost_micros).desc(), func.sum(Statistic.submitted).desc(), Statistic.name)
    query = select(Statistic.name, *totals).where(*_within(org_id, kind, step, since, until))
    found = conn.execute(query.group_by(Statistic.name).order_by(*costly).limit(limit)).all()
    names = _names(conn, kind, [row.name for row in found])
    return [
        Group(
            row.name, names.get(row.name), Counter({name: int(getattr(row, name) or 0) for name in COLUMNS})
        )
        for row in found
    ]


def group_series(
    conn: Connection, org_id: str, kind: str, names: Sequence[str], step: int, since: int, until: int
) -> dict[str, dict[int, Sums]]:
    """The sums of these agents, keys, end users or models by the beginnings of spans, without distributions."""
    query = select(Statistic.name, Statistic.at, *_COUNTS)
    query = query.where(*_within(org_id, kind, step, since, until), Statistic.name.in_(names))
    found: dict[str, dict[int, Sums]] = {name: {} for name in names}
    for row in conn.execute(query):
        found[row.name][row.at] = Counter({name: int(getattr(row, name) or 0) for name in COLUMNS})
    return found


def balance(conn: Connection, org_id: str) -> int | None:
    """What an organisation has left of its prepaid money, in millionths of a USD; None: it has no balance."""
    found = conn.execute(select(Organisation.balance_micros).where(Organisation.id == org_id)).scalar()
    return None if found is None else int(found)


def _within(org_id: str, kind: str, step: int, since: int, until: int) -> tuple[Any, ...]:
    return (
        Statistic.org_id == org_id,
        Statistic.kind == kind,
        Statistic.step == step,
        Statistic.at >= since,
        Statistic.at < until,
    )


def _names(conn: Connection, kind: str, ids: Sequence[str]) -> dict[str, str]:
    if kind not in _NAMED:
        return {}
    key, name = _NAMED[kind]
    found = conn.execute(select(key.label("id"), name.label("name")).where(key.in_(ids)))
    return {row.id: row.name for row in found if row.name}
