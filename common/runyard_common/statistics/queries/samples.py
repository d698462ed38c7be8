"""How much work waits: counted by indexes of unfinished runs, and kept as samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, case, func, literal_column, select

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import workers
from runyard_common.statistics.queries.sums import INSTALLATION
from runyard_common.statistics.rules import STEPS
from runyard_common.tables.query import Organisation, QueueSample, Task

#: What keeps an organisation's runs queued is named so often; the rest is summed as `OTHER`.
MOST_BLOCKERS: Final = 20
OTHER: Final = "other limits"
#: Organisations whose samples are read at once.
_CHARTED: Final = 10
#: By organisation and kind, then by name.
Sample = dict[tuple[str, str], Counter[str]]

# Written out, as in `queued`: a partial index serves. Runs that wait for a child or an event are one, whichever it is.
_QUEUED: Final[Any] = literal_column("'queued'")
_BY: Final[Any] = literal_column("tasks.held_by")
_WAITS: Final = ("child", "children", "event", "schedule", "sleep")
_KEEPS: Final = case(*((_BY.like(f"{kind}:%"), kind) for kind in _WAITS), else_=_BY)


def of_now(conn: Connection, now: float) -> Sample:
    """Count the unfinished runs and the live workers."""
    sample: Sample = defaultdict(Counter)
    by = (Task.org_id, Task.status)
    unfinished = select(*by, func.count().label("runs")).where(Task.finished_at.is_(None)).group_by(*by)
    for row in conn.execute(unfinished):
        sample[row.org_id, "status"][row.status] += row.runs
        sample[INSTALLATION, "status"][row.status] += row.runs
    kept = select(Task.lane, _KEEPS.label("by"), func.count().label("runs")).where(Task.status == _QUEUED)
    for row in conn.execute(kept.group_by(Task.lane, _KEEPS)):
        label = str(row.by or "resume").split("|", 1)[-1][:200]
        sample[row.lane, "blocker"][label] += row.runs
        sample[INSTALLATION, "blocker"][label] += row.runs
    alive = [worker for worker in workers.every(conn) if worker.is_alive(now)]
    sample[INSTALLATION, "workers"] = Counter(
        alive=len(alive),
        draining=sum(worker.draining for worker in alive),
        capacity=sum(worker.capacity for worker in alive if not worker.draining),
        running=sum(worker.running for worker in alive),
    )
    sample[INSTALLATION, "samples"] = Counter(samples=1)
    return {key: _most(counts) if key[1] == "blocker" else counts for key, counts in sample.items()}


def _most(counts: Counter[str]) -> Counter[str]:
    kept = Counter(dict(counts.most_common(MOST_BLOCKERS)))
    if rest := counts.total() - kept.total():
        kept[OTHER] += rest
    return kept


def add(tx: Tx, sample: Sample, minute: int) -> None:
    """Add a sample of this minute to the spans of each length."""
    table = QueueSample.__table__
    new = [
        {
            "org_id": org,
            "kind": kind,
            "step": step,
            "at": minute - minute % step,
            "name": name,
            "total": n,
            "peak": n,
        }
        for step in STEPS
        for (org, kind), counts in sample.items()
        for name, n in counts.items()
        if n
    ]
    statement = rows.insert(tx.db.is_postgres, table)
    given = statement.excluded
    higher = case((given.peak > table.c.peak, given.peak), else_=table.c.peak)
    tx.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["org_id", "kind", "step", "at", "name"],
            set_={"total": table.c.total + given.total, "peak": higher},
        ),
        new,
    )


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the samples of a span say of one status, blocker or number of workers."""

    at: int
    kind: str
    name: str
    total: int
    peak: int


def series(
    conn: Connection, org_id: str, kinds: tuple[str, ...], step: int, since: int, until: int
) -> list[Sampled]:
    """The samples of an organisation by spans of this length."""
    query = select(*rows.columns(Sampled, QueueSample)).where(
        QueueSample.org_id == org_id,
        QueueSample.kind.in_(kinds),
        QueueSample.step == step,
        QueueSample.at >= since,
        QueueSample.at < until,
    )
    return rows.every(conn, query, Sampled)


def organisations(
    conn: Connection, step: int, since: int, until: int
) -> tuple[list[Sampled], dict[str, str]]:
    """The waiting runs of those organisations that had the most, and their names by id."""
    mine = (
        QueueSample.kind == "status",
        QueueSample.name.in_(["pending", "queued"]),
        QueueSample.step == step,
        QueueSample.at >= since,
        QueueSample.at < until,
        QueueSample.org_id != INSTALLATION,
    )
    most = select(QueueSample.org_id).where(*mine).group_by(QueueSample.org_id)
    ids = list(conn.execute(most.order_by(func.sum(QueueSample.total).desc()).limit(_CHARTED)).scalars())
    query = select(
        QueueSample.at,
        literal_column("'organisation'").label("kind"),
        QueueSample.org_id.label("name"),
        func.sum(QueueSample.total).label("total"),
        func.sum(QueueSample.peak).label("peak"),
    )
    by = query.where(*mine, QueueSample.org_id.in_(ids)).group_by(QueueSample.at, QueueSample.org_id)
    found = [Sampled(row.at, row.kind, row.name, int(row.total), int(row.peak)) for row in conn.execute(by)]
    known = conn.execute(select(Organisation.id, Organisation.name).where(Organisation.id.in_(ids)))
    return found, {row.id: row.name for row in known}
