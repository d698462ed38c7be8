"""Tasks to prune, and a prune that has all the time it needs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from runyard_common.agents.service import agents
from runyard_common.files import FileStore
from runyard_common.identity.rules.retention import DAY_S
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.tables.query import (
    Organisation,
    Task,
)
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Prune
from tests.clockwork import Clockwork, end_task


def run(clock: Clockwork, end: Event | None = Event.FINISH, org: str | None = None, **spec: Any) -> str:
    """A task of the clock's time, ended so; its id."""
    with clock.begin() as tx:
        ref = agents.resolve(tx.scope(clock.org), "@test/echo").ref
        made = RunSpec(uuid7(), org or clock.org, ref, "native", spec.pop("input", {"message": "x"}), **spec)
        submissions.submit(tx, [made])
        if end is not None:
            end_task(tx, made.task_id, end)
    return made.task_id


def left(clock: Clockwork) -> set[str]:
    """The tasks that are kept."""
    with clock.store.read() as conn:
        return set(conn.execute(select(Task.id)).scalars())


def count(clock: Clockwork, table: Any) -> int:
    with clock.store.read() as conn:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def prune(clock: Clockwork, files: FileStore, days: float = 0.0, **options: Any) -> int:
    """Let `days` pass, then prune until there is nothing more to do."""
    clock.now += days * DAY_S
    duty = Prune(clock.store, files, 30.0, **options)
    deleted = 0
    while True:
        deleted += duty.run_once()
        if duty.due_in is not None and duty.due_in > 1:
            return deleted


def settings(clock: Clockwork, **values: Any) -> None:
    table = Organisation.__table__
    change = table.update().where(Organisation.id == clock.org).values(settings=values)
    clock.transact(lambda tx: tx.conn.execute(change))
