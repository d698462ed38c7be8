"""An organisation is erased on a running installation, killed in the middle, while another one works."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity as organisations
from runyard_common.identity.rules.actors import OPERATOR
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity
from runyard_common.identity.service import organisations as service
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.settings import Settings
from runyard_common.tables import metadata
from runyard_common.tables.query import Task, TaskEvent
from tests.stack import ROOT, Stack

OLD_RUNS = 1_500
RUN = "/api/v1/agents/@demo%2Fecho/run"


class Tenant:
    """An organisation with a key."""

    def __init__(self, stack: Stack, store: Store, name: str) -> None:
        self._stack = stack
        with store.begin() as tx:
            self.id = service.create(tx, name, OPERATOR, None).id
            wanted = KeyRequest("all", Role.ADMIN)
            self.key = identity.create_key(tx, self.id, wanted, OPERATOR, Role.OWNER).key

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request with its key."""
        return self._stack.request(method, path, body, headers={"authorization": f"Bearer {self.key}"})

    def run(self) -> dict[str, Any]:
        """Submit a run, and wait for its end."""
        status, accepted = self.call("POST", RUN, {"args": {"text": "hi"}})
        assert status == 202, accepted
        while True:
            _, task = self.call("GET", f"/tasks/{accepted['task_id']}?wait=20")
            if task["finished_at"] is not None:
                return task  # type: ignore[no-any-return]


class Work(threading.Thread):
    """An organisation at work: one run after another."""

    def __init__(self, tenant: Tenant) -> None:
        super().__init__(daemon=True)
        self._tenant = tenant
        self._over = threading.Event()
        self.runs: list[dict[str, Any]] = []
        self.longest = 0.0

    def run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            self.runs.append(self._tenant.run())
            self.longest = max(self.longest, time.monotonic() - began)

    def end(self) -> None:
        """After the run under way."""
        self._over.set()
        self.join()


def copy_runs(store: Store, task_id: str, copies: int) -> None:
    """Give an organisation so many runs like this one."""
    with store.begin() as tx:
        task = dict(tx.conn.execute(select(Task.__table__).where(Task.id == task_id)).mappings().one())
        events = [dict(row) for row in tx.conn.execute(
            select(TaskEvent.__table__).where(TaskEvent.task_id == task_id)
        ).mappings()]  # fmt: skip
        ids = [f"{task_id[:-6]}{number:06d}" for number in range(copies)]
        tx.conn.execute(insert(Task), [task | {"id": id_} for id_ in ids if id_ != task_id])
        tx.conn.execute(
            insert(TaskEvent), [row | {"task_id": id_} for id_ in ids if id_ != task_id for row in events]
        )


def count(store: Store, table: Any) -> int:
    with store.read() as conn:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def naming(store: Store, text: str) -> set[str]:
    """The tables that have a row with this text."""
    with store.read() as conn:
        return {
            name
            for name, table in metadata.tables.items()
            if any(text in repr(tuple(row)) for row in conn.execute(select(table)))
        }


def test_a_killed_erasure_goes_on_and_another_organisation_works_beside_it(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        db = Database(Settings(home=stack.home).database)
        store = Store(db)
        leaver, stayer = Tenant(stack, store, "leaver"), Tenant(stack, store, "stayer")
        copy_runs(store, leaver.run()["task_id"], OLD_RUNS)
        schedule = {"agent": "@demo/echo", "schedule": "*/5 * * * *", "run": {"args": {"text": "hi"}}}
        assert leaver.call("POST", "/api/v1/schedules", schedule)[0] == 201
        before = count(store, TaskEvent)
        work = Work(stayer)
        work.start()
        command = [
            sys.executable,
            "-m",
            "runyard_launch.cli",
            "orgs",
            "erase",
            "leaver",
            "--yes",
            "leaver",
            "--json",
        ]
        killed = subprocess.Popen(command, env=stack.env, cwd=ROOT, stdout=subprocess.DEVNULL)
        while count(store, TaskEvent) >= before and killed.poll() is None:
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        with store.read() as conn:
            found = organisations.organisation(conn, leaver.id)
        if found is not None:  # killed before its end
            status, refusal = leaver.call("POST", RUN, {"args": {"text": "hi"}})
            assert (status, refusal["code"]) == (401, "organisation_erased")
            ended = subprocess.run(
                command, env=stack.env, cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, ended.stderr
            assert json.loads(ended.stdout)["organisation"] == leaver.id
        work.end()
        assert leaver.call("GET", "/tasks")[0] == 401
        assert naming(store, leaver.id) == {"audit"}
        assert {run["status"] for run in work.runs} == {"completed"}
        assert {run["attempt"] for run in work.runs} == {1}, "no run was rescued, or begun again"
        db.close()
