"""Worker processes, their leases (one heartbeat row holds every run of a process), and the wake-ups they are due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from runyard_common.database import rows
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.transaction import Tx
from runyard_common.tables import query as tables
from runyard_common.tables.query import Outbox, Task

_T = tables.Worker
_AGENTS = tables.WorkerAgent
#: A worker with more Python agents than these has a row for each, and its claims do not name them.
MANY_AGENTS: Final = 64


@dataclass(frozen=True, slots=True)
class Worker:
    """One life of a worker process, as its last heartbeat left it. Times are epoch seconds."""

    id: str
    host: str
    pid: int
    capacity: int
    lease_seconds: float
    lease_expires_at: float
    lost: bool
    draining: bool
    running: int
    agents: list[str] | None  # Python agents (name@version) that it can run; None: it is not known
    loop_lag_s: float
    threads_held: int
    started_at: float
    seen_at: float
    resumes: list[str] | None = None  # versions that it carries on once no worker has them
    release: str | None = None

    def is_alive(self, now: float) -> bool:
        """Whether its lease lasts."""
        return not self.lost and self.lease_expires_at >= now


def enlist(
    tx: Tx,
    worker_id: str,
    host: str,
    pid: int,
    capacity: int,
    lease_seconds: float,
    agents: Sequence[str] | None = None,
    brings: Sequence[str] | None = None,
    resumes: Sequence[str] = (),
    draining: bool = False,
    release: str | None = None,
) -> None:
    """A worker process begins a life, with a lease of `lease_seconds` from now. `agents` are the Python agents
    (name@version) it can run; None: it is not known, and it may have any. `brings` are the agents of its own sources,
    declared ones too, each in the version that they have there; None: as `agents`. `resumes` are Python agents whose
    runs it carries on with the code of another version, or refuses, once no worker has theirs. `draining`: it claims
    nothing until that is taken back. `release`: what it runs."""
    tx.conn.execute(
        insert(_T),
        {
            "id": worker_id,
            "host": host,
            "pid": pid,
            "capacity": capacity,
            "lease_seconds": lease_seconds,
            "lease_expires_at": tx.now + lease_seconds,
            "lost": False,
            "draining": draining,
            "running": 0,
            "agents": None if agents is None else sorted(agents),
            "brings": None if brings is None or brings == agents else sorted(brings),
            "resumes": sorted(resumes) or None,
            "release": release,
            "started_at": tx.now,
            "seen_at": tx.now,
        },
    )
    if agents is not None and len(agents) > MANY_AGENTS:
        tx.conn.execute(insert(_AGENTS), [{"worker_id": worker_id, "agent": agent} for agent in set(agents)])


@dataclass(frozen=True, slots=True)
class Health:
    """What a worker reports of itself with each beat. `capacity` is what it can run now, `loop_lag_s` seconds."""

    running: int
    capacity: int
    draining: bool = False
    loop_lag_s: float = 0.0
    threads_held: int = 0


def heartbeat(tx: Tx, worker_id: str, lease_seconds: float, health: Health) -> bool:
    """Extend the lease, unless the worker was declared lost meanwhile: then False, and it owns nothing.

    An operator drains a worker by its row: a worker that does not leave by itself lets that be.
    """
    reported = {name: value for name, value in asdict(health).items() if name != "draining" or value}
    done = tx.conn.execute(
        update(_T)
        .where(_T.id == worker_id, _T.lost.is_(False))
        .values(lease_expires_at=tx.now + lease_seconds, seen_at=tx.now, **reported)
    )
    return bool(done.rowcount)


def drain(tx: Tx, worker_id: str, draining: bool = True) -> None:
    """A worker claims nothing any more, or again; claims under way are waited for."""
    tx.conn.execute(update(_T).where(_T.id == worker_id).values(draining=draining))


def is_draining(conn: Connection, worker_id: str) -> bool:
    """Whether this worker is not to claim."""
    return bool(conn.execute(select(_T.draining).where(_T.id == worker_id)).scalar())


def may_claim(tx: Tx, worker_id: str) -> bool | None:
    """Whether this worker may claim, which it may not while it drains; None: it was declared lost. Its row is locked
    in share, so that neither changes meanwhile."""
    found = _MAY_CLAIM.all(tx.conn, {"worker": worker_id})
    return not found[0].draining if found else None


_MAY_CLAIM = PreparedStatement(
    lambda postgres: (
        select(_T.draining).where(_T.id == bindparam("worker"), _T.lost.is_(False)).with_for_update(read=True)
    )
)


def declare_lost(tx: Tx, watched_s: float | None = None) -> list[str]:
    """Mark every worker whose lease ran out; from here on its heartbeat is refused. Their ids.

    With `watched_s`, the seconds for which the database has answered without a gap, a worker is left alone whose
    lease is longer than that: it may be alive and not have had the chance to beat yet.
    """
    ran_out = [_T.lost.is_(False), _T.lease_expires_at < tx.now]
    if watched_s is not None:
        ran_out.append(_T.lease_seconds <= watched_s)
    query = select(_T.id).where(*ran_out).order_by(_T.id).with_for_update(skip_locked=True)
    ids = list(tx.conn.execute(query).scalars())
    if ids:
        tx.conn.execute(update(_T).where(_T.id.in_(ids)).values(lost=True))
    return ids


def mark_lost(tx: Tx, worker_id: str) -> bool:
    """This very worker can claim and beat no more; False when that was so already, or it has no row."""
    done = tx.conn.execute(update(_T).where(_T.id == worker_id, _T.lost.is_(False)).values(lost=True))
    return bool(done.rowcount)


def retire(tx: Tx, worker_id: str) -> bool:
    """A worker ends its life in order; False, and its row stays, while a running task names it.

    Its row is locked before the tasks are looked at: a claim under way holds it in share until it has committed.
    """
    tx.conn.execute(select(_T.id).where(_T.id == worker_id).with_for_update())
    named = select(Task.id).where(Task.status == "running", Task.lease_owner == worker_id).limit(1)
    if tx.conn.execute(named).first() is not None:
        return False
    forget(tx, [worker_id])
    return True


def lost(conn: Connection) -> list[str]:
    """Workers declared lost, whose runs may still have to be handed on."""
    return list(conn.execute(select(_T.id).where(_T.lost.is_(True)).order_by(_T.id)).scalars())


def forget(tx: Tx, worker_ids: Sequence[str]) -> None:
    """Remove lost workers that hold no run any more."""
    tx.conn.execute(delete(_AGENTS).where(_AGENTS.worker_id.in_(worker_ids)))
    tx.conn.execute(delete(_T).where(_T.id.in_(worker_ids)))


_Life = tuple[str, float]


class _Lives:
    """The agents of the workers that the last look has seen, with those that they take over. A life has the same ones
    until it ends, and they may be thousands."""

    agents: ClassVar[Mapping[_Life, tuple[frozenset[str] | None, frozenset[str]]]] = {}


@dataclass(frozen=True, slots=True)
class Fleet:
    """Which Python agents (name@version) the live workers have, each worker's apart; None: it may have any.
    `resumes` are those that one of them carries on once none has them."""

    of_each: tuple[frozenset[str] | None, ...]
    resumes: frozenset[str] = frozenset()

    def has(self, agent: str) -> bool:
        """Whether a live worker can run it, be it with the code of another version."""
        return agent in self.resumes or any(its is None or agent in its for its in self.of_each)

    def has_code(self, agent: str) -> bool:
        """Whether a live worker is known to have the code of this very version."""
        return any(its is not None and agent in its for its in self.of_each)

    def versions(self, name: str) -> list[str]:
        """The versions of an agent that live workers are known to have."""
        known = {agent for agents in self.of_each for agent in agents or ()}
        return sorted(agent.rpartition("@")[2] for agent in known if agent.rpartition("@")[0] == name)

    def lacks(self, agents: Sequence[str]) -> bool:
        """Whether a live worker cannot run one of these."""
        return any(its is not None and not its.issuperset(agents) for its in self.of_each)


def fleet(conn: Connection, now: float) -> Fleet:
    """The agents of the workers that are alive; one that drains claims nothing any more."""
    alive = (_T.lost.is_(False), _T.draining.is_(False), _T.lease_expires_at > now)
    query = select(_T.id, _T.started_at).where(*alive)
    lives = [(row.id, row.started_at) for row in conn.execute(query)]
    known = _Lives.agents
    if unknown := [id_ for id_, started_at in lives if (id_, started_at) not in known]:
        query = select(_T.id, _T.started_at, _T.agents, _T.resumes).where(_T.id.in_(unknown))
        found = {
            (r.id, r.started_at): (
                None if r.agents is None else frozenset(r.agents),
                frozenset(r.resumes or ()),
            )
            for r in conn.execute(query)
        }
        known = found | {life: known[life] for life in lives if life in known}
        _Lives.agents = known
    seen = [known[life] for life in lives if life in known]
    return Fleet(tuple(own for own, _ in seen), frozenset().union(*(more for _, more in seen)))


def brought(conn: Connection, worker_ids: Sequence[str] | None = None) -> set[str]:
    """The agents (name@version) that these workers bring; without ids those that are there to stay.

    A worker counts from its first row until it drains, retires or is declared lost, not by its lease: after an outage
    of the database leases have run out of workers that are alive.
    """
    query = select(_T.agents, _T.brings)
    if worker_ids is None:
        query = query.where(_T.lost.is_(False), _T.draining.is_(False))
    else:
        query = query.where(_T.id.in_(worker_ids))
    return {
        agent
        for row in conn.execute(query)
        for agent in (row.agents if row.brings is None else row.brings) or ()
    }


def every(conn: Connection) -> list[Worker]:
    """Every worker, oldest first."""
    return rows.every(conn, select(*rows.columns(Worker, _T)).order_by(_T.started_at), Worker)


def one(conn: Connection, worker_id: str) -> Worker | None:
    """A worker by its id."""
    return rows.first(conn, select(*rows.columns(Worker, _T)).where(_T.id == worker_id), Worker)


@dataclass(frozen=True, slots=True)
class RunOfWorker:
    """A run under way and the worker that has it. `started_at` is in epoch seconds."""

    id: str
    org_id: str
    agent_name: str
    lease_owner: str
    started_at: float | None


def runs_under_way(conn: Connection, at_most: int) -> list[RunOfWorker]:
    """The runs that workers have, the longest first."""
    query = select(*rows.columns(RunOfWorker, Task)).where(Task.status == "running")
    return rows.every(conn, query.order_by(Task.started_at, Task.id).limit(at_most), RunOfWorker)


def counts_under_way(conn: Connection) -> dict[str, int]:
    """How many runs each worker has: those that have any, by id."""
    query = select(Task.lease_owner, func.count()).where(Task.status == "running").group_by(Task.lease_owner)
    return {owner: count for owner, count in conn.execute(query) if owner is not None}


def outbox_rows(conn: Connection, older_than: float, limit: int = 1000) -> list[str]:
    """Ids of wake-ups that processes of an earlier version wrote before `older_than` and did not delete."""
    query = select(Outbox.id).where(Outbox.at < older_than).order_by(Outbox.at).limit(limit)
    return list(conn.execute(query).scalars())


def delete_outbox_rows(tx: Tx, ids: Sequence[str]) -> None:
    """Delete rows of the outbox; some may be gone already."""
    tx.conn.execute(delete(Outbox).where(Outbox.id.in_(ids)))


def unclaimed(conn: Connection, older_than: float, at_most: int = 1000) -> int:
    """Claimable tasks untouched since `older_than`: their wake-up was lost on its way, or every worker is busy."""
    waiting = (
        select(Task.id)
        .where(Task.status == "pending", Task.updated_at < older_than)
        .limit(at_most)
        .subquery()
    )
    return int(conn.execute(select(func.count()).select_from(waiting)).scalar_one())
