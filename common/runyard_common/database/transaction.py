"""A unit of work: one transaction and what must happen once it has committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from runyard_common.database.engine import Database, Durability
from runyard_common.database.rows import OrgScope
from runyard_common.identity.rules.caps import Caps
from runyard_common.runs.rules.blocked_by import BlockedBy
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


@dataclass(slots=True)
class Tx:
    """A transaction under way. Store functions write through `conn` and note here what follows the commit."""

    db: Database
    conn: Connection
    now: float
    events: list[CommittedEvent] = field(default_factory=list)
    woken: int = 0  # tasks that became claimable: notify the workers
    cancelled: list[tuple[str, str]] = field(
        default_factory=list
    )  # (worker id, task id) whose worker is notified
    freed: set[BlockedBy] = field(default_factory=set)  # what may let queued tasks go on now
    deliveries: int = 0  # deliveries that became due: notify the deliverers
    caps: Caps = field(default_factory=Caps)

    def scope(self, org_id: str) -> OrgScope:
        """This transaction as an organisation sees it."""
        return OrgScope(self.conn, org_id)


AfterCommit = Callable[[Tx], None]


class Store:
    """Opens transactions; after each commit calls `after_commit` with what follows."""

    def __init__(
        self, db: Database, after_commit: AfterCommit | None = None, caps: Caps | None = None
    ) -> None:
        """`caps` bound what organisations may have; by default as `runyard_common.identity.rules.caps` has them."""
        self.db = db
        self.after_commit = after_commit
        self.caps = caps or Caps()

    @contextmanager
    def begin(self, durability: Durability = Durability.DISK) -> Iterator[Tx]:
        """A write transaction."""
        with self.db.begin(durability) as conn:
            tx = Tx(self.db, conn, self.db.now(conn), caps=self.caps)
            yield tx
        if self.after_commit is not None:
            self.after_commit(tx)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only snapshot."""
        with self.db.read() as conn:
            yield conn
