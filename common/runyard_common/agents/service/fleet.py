"""Workers come and go, and the current versions of the agents that they bring follow them.

Of the versions that live workers bring, the one that was published last is current; where no worker brings any, what
was current stays. So an old worker that is started again changes nothing while a newer one lives, and once the last
newer one has left, was declared lost or begins to drain, the version that is left is current. Each function does both
in one transaction, the caller's: no run is bound to a version that was gone already. See docs/decisions/0022.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import structlog

from runyard_common.agents.queries import agents
from runyard_common.agents.queries.agents import BroughtVersion
from runyard_common.agents.service.agents import make_current
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import workers
from runyard_common.runs.queries.workers import Worker
from runyard_common.values.errors import Conflict, NotFound

logger = structlog.get_logger("runyard.fleet")


def drain(tx: Tx, worker_id: str) -> None:
    """A worker begins to leave: it claims nothing from here on."""
    workers.drain(tx, worker_id)
    settle(tx, workers.brought(tx.conn, [worker_id]))


def resume(tx: Tx, worker_id: str) -> None:
    """A worker that an operator drained claims again."""
    workers.drain(tx, worker_id, draining=False)
    settle(tx, workers.brought(tx.conn, [worker_id]))


def order(tx: Tx, worker_id: str, draining: bool) -> Worker:
    """An operator drains a worker, or lets it claim again; the worker as it is then.

    Errors: `NotFound` worker_not_found, `Conflict` worker_lost.
    """
    row = workers.one(tx.conn, worker_id)
    if row is None:
        raise no_such_worker()
    if not row.is_alive(tx.now):
        raise Conflict("The worker is lost: its runs were handed on.", code="worker_lost")
    if draining:
        drain(tx, worker_id)
    else:
        resume(tx, worker_id)
    return replace(row, draining=draining)


def no_such_worker() -> NotFound:
    """The refusal of an id that no worker has, or that is not the caller's to know."""
    return NotFound("There is no such worker.", code="worker_not_found", field="worker_id")


def retire(tx: Tx, worker_id: str) -> bool:
    """A worker ends its life in order; False, and its row stays, while a running task names it."""
    brought = workers.brought(tx.conn, [worker_id])
    gone = workers.retire(tx, worker_id)
    if gone:
        settle(tx, brought)
    return gone


def mark_lost(tx: Tx, worker_id: str) -> bool:
    """This very worker can claim and beat no more; False when that was so already, or it has no row."""
    lost = workers.mark_lost(tx, worker_id)
    if lost:
        settle(tx, workers.brought(tx.conn, [worker_id]))
    return lost


def declare_lost(tx: Tx, watched_s: float | None = None) -> list[str]:
    """Find workers whose lease ran out; from this commit on they can neither heartbeat nor claim. Their ids.

    `watched_s`: see `workers.declare_lost`.
    """
    lost = workers.declare_lost(tx, watched_s)
    if lost:
        settle(tx, workers.brought(tx.conn, lost))
    return lost


def settle(tx: Tx, brought: Iterable[str]) -> None:
    """Bring the current versions of the agents that these (name@version) are of into step with the live workers.

    Who publishes or settles the same agents waits until this transaction ends, and sees then what it has done.
    """
    names = {one.rpartition("@")[0] for one in brought}
    if not names:
        return
    for org_id in sorted({row.org_id for row in agents.brought_versions(tx.conn, sorted(names))}):
        agents.lock_names(tx, org_id)
    live = workers.brought(tx.conn)
    by_agent: dict[str, list[BroughtVersion]] = {}
    for row in agents.brought_versions(tx.conn, sorted(names)):
        if f"{row.name}@{row.version}" in live:
            by_agent.setdefault(row.agent_id, []).append(row)
    for agent_id, rows in sorted(by_agent.items()):
        _settle(tx, agent_id, rows)


def _settle(tx: Tx, agent_id: str, brought: list[BroughtVersion]) -> None:
    """Make the newest of these versions current, unless a publish chose another since they are there."""
    agent = agents.get(tx.scope(brought[0].org_id), agent_id)
    if agent is None:
        return
    if agent.chosen_at is not None:
        brought = [row for row in brought if row.created_at > agent.chosen_at]
    usable = [row for row in brought if not row.yanked] or brought
    newest = max(usable, key=lambda row: (row.number, row.created_at), default=None)
    if newest is None or newest.id == agent.version_id:
        return
    version = agents.version(tx.conn, newest.id)
    if version is not None:
        make_current(tx, agent, version.manifest, version.id, shared=True)
        logger.info("Another version is current", action="current", agent=agent.name, version=version.version)
