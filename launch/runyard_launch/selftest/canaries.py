"""Runs of the selftest: submitted by the database, as the api would, and looked at there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import journal, tasks, workers
from runyard_common.runs.queries.workers import Worker
from runyard_common.runs.rules.lifecycle import TERMINAL
from runyard_common.runs.rules.specs import AcceptedRun, CallbackTo, RunSpec
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service.submissions import submit
from runyard_common.values.ids import uuid7
from runyard_launch.selftest.agents import GO_ON, NAME, NOTES, VERSION

_LOOK_EVERY: Final = 0.05


class Canaries:
    """The runs of one selftest."""

    def __init__(self, store: Store, org_id: str, folder: Path) -> None:
        self.store = store
        self.org_id = org_id
        self._folder = folder

    def submit(self, count: int, callback: Callable[[str], str] | None = None, **args: int) -> list[str]:
        """Submit runs of the canary; their ids. `callback` gives the URL of a run by its id."""
        with self.store.begin() as tx:
            agent = agents.resolve(OrgScope(tx.conn, self.org_id), NAME, VERSION).ref
            ids = [uuid7() for _ in range(count)]
            specs = [
                RunSpec(
                    task_id=id_, org_id=self.org_id, agent=agent, front="native", input={"args": args},
                    callback=CallbackTo(callback(id_)) if callback else None,
                )
                for id_ in ids
            ]  # fmt: skip
            for answer in submit(tx, specs):
                if not isinstance(answer, AcceptedRun):
                    raise answer
        return ids

    def tasks(self, ids: Collection[str]) -> list[Task]:
        """These runs as they are now."""
        with self.store.read() as conn:
            return list(tasks.load(conn, ids).values())

    def ended(self, ids: Sequence[str], seconds: float) -> list[Task]:
        """Wait until these runs have ended, `seconds` at most; those that have completed."""
        wait_for(lambda: all(task.status in TERMINAL for task in self.tasks(ids)), seconds)
        return [task for task in self.tasks(ids) if task.status == "completed"]

    def steps(self, task_id: str) -> int:
        """How many steps of a run are recorded as done."""
        with self.store.read() as conn:
            entries = journal.load(conn, [task_id]).get(task_id, [])
        return sum(entry.state == "done" for entry in entries)

    def executed(self) -> list[tuple[str, int]]:
        """Every step that was executed, by run and number, as often as it was."""
        notes = self._folder / NOTES
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def go_on(self) -> None:
        """Let runs that wait for the selftest go on."""
        (self._folder / GO_ON).touch()

    def workers(self) -> list[Worker]:
        """The workers whose leases last."""
        with self.store.read() as conn:
            now = self.store.db.now(conn)
            return [worker for worker in workers.every(conn) if worker.is_alive(now)]


def is_of_selftest(worker: Worker) -> bool:
    """Whether a worker was started by a selftest."""
    return any(agent.startswith(f"{NAME}@") for agent in worker.agents or ())


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition becomes true within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_EVERY)
    return True
