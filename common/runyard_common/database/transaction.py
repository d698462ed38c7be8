"""A unit of work: one transaction and what must happen once it has committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, case, select
from sqlalchemy.exc import DBAPIError

from runyard_common.clock import KnownClock, TransactionClock
from runyard_common.database.engine import LATER, Database, Durability, OwnConnection
from runyard_common.database.outages import sqlstate
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.rows import OrgScope
from runyard_common.identity.rules.caps import Caps
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.head_memory import HeadMemory
from runyard_common.runs.rules.tasks import Head
from runyard_common.values.logged_event import LoggedEvent


@dataclass(frozen=True, slots=True)
class CommittedEvent:
    """An event of a task's log as it was committed: what followers and callbacks get."""

    org_id: str
    task_id: str
    seq: int
    type: str
    attempt: int
    data: Any
    at: float

    def to_json(self) -> LoggedEvent:
        """The event as the live stream and the native API carry it."""
        return {
            "task_id": self.task_id,
            "seq": self.seq,
            "type": self.type,
            "attempt": self.attempt,
            "data": self.data,
            "at": self.at,
        }


class Condition:
    """A condition of `Tx.require` that is put together once."""

    def __init__(self, holds: Callable[[], ColumnElement[bool]]) -> None:
        self.plain = PreparedStatement(lambda postgres: select(holds().label("holds")))
        self.or_error = PreparedStatement(lambda postgres: select(_or_error(holds())))


def _or_error(holds: ColumnElement[bool]) -> ColumnElement[Any]:
    return (1 / case((holds, 1), else_=0)).label("one")


@dataclass(slots=True)
class Tx:
    """A transaction under way. Store functions write through `conn` and note here what follows the commit."""

    db: Database
    conn: Connection
    clock: TransactionClock
    events: list[CommittedEvent] = field(default_factory=list)
    woken: int = 0  # tasks that became claimable: notify the workers
    cancelled: list[tuple[str, str]] = field(
        default_factory=list
    )  # (worker id, task id) whose worker is notified
    freed: set[BlockedBy] = field(default_factory=set)  # what may let queued tasks go on now
    deliveries: int = 0  # deliveries that became due: notify the deliverers
    left: set[str] = field(default_factory=set)  # tasks that left their workers
    over: list[Any] = field(default_factory=list)  # spans that are over with it, where traces are recorded
    caps: Caps = field(default_factory=Caps)
    retried: bool = False  # who began it begins again where a requirement fails
    outdated: list[Callable[[], object]] = field(default_factory=list)  # what to do where a requirement fails
    locks_tasks: bool = False  # it has locked some
    may_not_lock_tasks: bool = (
        False  # a command before has locked some: one that would lock more gets `NeedsOwnTransaction`
    )
    upcoming: frozenset[str] = frozenset()  # tasks of all its commands: locked together, in one order
    locked: dict[str, Head] = field(default_factory=dict)  # those of `upcoming`, as they are now
    unsure: set[str] = field(default_factory=set)  # tasks that it wrote to, and whose heads it does not know
    memory: HeadMemory = field(default_factory=HeadMemory)

    @property
    def now(self) -> float:
        """When it happens, in seconds since the epoch on the database's clock."""
        return self.clock.now()

    @now.setter
    def now(self, moment: float) -> None:
        self.clock = KnownClock(moment)

    def remembered(self, task_ids: Iterable[str]) -> dict[str, Head] | None:
        """What this process remembers of these tasks, to write by and to have it checked by the database (`require`);
        None where it does not, or where each answer is waited for anyway."""
        waits = not self.retried or not self.db.is_postgres or self.conn.in_nested_transaction()
        return None if waits else self.memory.heads(task_ids)

    def require(
        self,
        condition: ColumnElement[bool] | Condition,
        otherwise: Callable[[], object],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        """Commit only if this holds, which the database judges in its turn among the other statements.

        Raises `Outdated`, on PostgreSQL not before a later statement or the commit: no answer is waited for. Then
        `otherwise` is called, to forget what is so no more, and a group commit runs its commands again. `values` are
        those of the condition's parameters.
        """
        self.outdated.append(otherwise)
        # In a savepoint each answer is waited for.
        at_commit = self.db.is_postgres and not self.conn.in_nested_transaction()
        if isinstance(condition, Condition):
            if at_commit:
                condition.or_error.send(self.conn, values or {})
            elif not condition.plain.all(self.conn, values or {})[0].holds:
                raise Outdated
        elif at_commit:
            self.conn.execute(select(_or_error(condition)), values, execution_options=LATER)
        elif not self.conn.execute(select(condition), values).scalar_one():
            raise Outdated

    def scope(self, org_id: str) -> OrgScope:
        """This transaction as an organisation sees it."""
        return OrgScope(self.conn, org_id)


class Outdated(Exception):
    """What a transaction went by is so no more (`Tx.require`); nothing was written."""


class NeedsOwnTransaction(Exception):
    """The command locks rows, and so did one before it in the transaction: it needs a transaction of its own.

    With the locks of both, two processes could each wait for what the other has locked.
    """


AfterCommit = Callable[[Tx], None]


#: PostgreSQL's code for a division by zero, which is how a condition of `Tx.require` fails within a pipeline.
_DIVISION_BY_ZERO: Final = "22012"


class Store:
    """Opens transactions; after each commit calls `after_commit` with what follows."""

    def __init__(
        self, db: Database, after_commit: AfterCommit | None = None, caps: Caps | None = None
    ) -> None:
        """`caps` bound what organisations may have; by default as `runyard_common.identity.rules.caps` has them."""
        self.db = db
        self.after_commit = after_commit
        self.caps = caps or Caps()
        self.memory = HeadMemory()

    @contextmanager
    def begin(
        self, durability: Durability = Durability.DISK, own: OwnConnection | None = None
    ) -> Iterator[Tx]:
        """A write transaction, on the caller's `own` connection where it has one."""
        try:
            with self.db.begin(durability, own) as conn:
                clock = self.db.clock_of(conn)
                tx = Tx(self.db, conn, clock, caps=self.caps, memory=self.memory)
                yield tx
        except (Outdated, DBAPIError) as error:
            if isinstance(error, DBAPIError) and not (sqlstate(error) == _DIVISION_BY_ZERO and tx.outdated):
                raise
            for otherwise in tx.outdated:
                otherwise()
            raise Outdated from error
        clock.ended()
        if self.db.is_postgres:
            self.memory.keep(tx.locked.values())
            self.memory.forget(tx.unsure)
        if self.after_commit is not None:
            self.after_commit(tx)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only snapshot."""
        with self.db.read() as conn:
            yield conn
