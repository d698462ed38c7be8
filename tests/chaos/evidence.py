"""What a storm leaves behind: rows, logs, the agents' ledger, what receivers took, what was done to whom."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import events, tasks
from runyard_common.runs.rules.tasks import Task
from runyard_common.tables.query import Delivery, Worker
from runyard_common.tables.query import Task as TaskRow
from tests.chaos.ledger import Ledger, Lived
from tests.chaos.orders import Order
from tests.fakes.receiver import Received

_CHUNK = 200


@dataclass(frozen=True)
class Run:
    """One task: its row, its append-only log, its executions. `order` is None for a child."""

    task: Task
    log: Sequence[Mapping[str, Any]]
    lives: Sequence[Lived]
    order: Order | None

    @property
    def innocent(self) -> bool:
        """Whether nothing is wrong with its agent."""
        return self.order is None or self.order.poison is None

    @property
    def label(self) -> str:
        """What it is, for a finding's text."""
        kind = self.order.kind if self.order else "child"
        return f"{self.task.id} ({self.task.agent_name}, {kind})"

    def events(self, *types: str) -> list[Mapping[str, Any]]:
        """The entries of its log of these types."""
        return [event for event in self.log if event["type"] in types]


@dataclass(frozen=True)
class Exit:
    """A process that ended. `how`: killed (by the storm), ordered (SIGTERM by the storm) or itself."""

    name: str
    code: int
    how: str
    seconds: float = 0.0  # from the SIGTERM
    pid: int = 0


@dataclass
class Evidence:
    """Everything the verdict looks at. `offset` is epoch minus monotonic time of this host, in seconds."""

    orders: Mapping[str, Order]  # accepted task id -> what was ordered
    runs: Mapping[str, Run]
    worker_ids: frozenset[str]
    refused: Sequence[str] = ()  # orders that were never accepted
    deliveries: Sequence[Any] = ()
    received: Sequence[Received] = ()
    exits: Sequence[Exit] = ()
    struck: Mapping[str, float] = field(default_factory=dict)  # worker id -> when the storm hit it, epoch
    resumed: Sequence[tuple[int, float]] = ()  # (pid, monotonic time) of every SIGCONT
    offset: float = 0.0


_DELIVERY = (
    Delivery.task_id, Delivery.event_id, Delivery.event_type, Delivery.order_key, Delivery.order_seq,
    Delivery.state, Delivery.error,
)  # fmt: skip


def load(url: str, orders: Mapping[str, Order], ledger: Ledger) -> Evidence:
    """Read it all from the database in one snapshot, and the ledger."""
    db = Database(url)
    try:
        # Workers may still write: without one snapshot a row and its log would be of two moments.
        level = "REPEATABLE READ" if db.is_postgres else "SERIALIZABLE"
        with db.engine.connect().execution_options(isolation_level=level) as conn, conn.begin():
            ids = list(conn.execute(select(TaskRow.id)).scalars())
            lives = ledger.lives()
            runs: dict[str, Run] = {}
            for start in range(0, len(ids), _CHUNK):
                for task in tasks.load(conn, ids[start : start + _CHUNK]).values():
                    log = events.after(OrgScope(conn, task.org_id), task.id, 0, 100_000)
                    runs[task.id] = Run(task, log, lives.get(task.id, ()), orders.get(task.id))
            owners = frozenset(conn.execute(select(Worker.id)).scalars())
            deliveries = list(
                conn.execute(select(*_DELIVERY).order_by(Delivery.order_key, Delivery.order_seq))
            )
    finally:
        db.close()
    return Evidence(orders, runs, owners, deliveries=deliveries, offset=time.time() - time.monotonic())
