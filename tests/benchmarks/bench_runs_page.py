"""The console's page of runs beside a hundred and beside a hundred thousand tasks: its request with each filter.

The request is answered in this process over HTTP. Medians of wall time, both in turns; the ratio is what counts.

python -m tests.benchmarks.bench_runs_page [--stored 100000] [--rounds 40] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
from sqlalchemy import text

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.identity.queries import identity
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.values.ids import uuid7
from tests.api_server import Api
from tests.benchmarks.bench_schedules import databases
from tests.benchmarks.history import fill

FEW: Final = 100
_ROWS: Final = 30
_WARM: Final = 5


class Page:
    """An API with `stored` finished tasks of its organisation, some of which a filter finds."""

    def __init__(self, stack: ExitStack, url: str, stored: int) -> None:
        self.api = stack.enter_context(Api(Path(stack.enter_context(tempfile.TemporaryDirectory())), url))
        headers = {"authorization": f"Bearer {self.api.key}"}
        self.client = stack.enter_context(httpx2.Client(base_url=self.api.url, headers=headers, timeout=60))
        store, db = self.api.state.store, self.api.state.db
        with store.begin() as tx:
            org = identity.organisations(tx.conn, 1)[0].id
            ref = agents.publish(tx, org, parse({"name": "@bench/noop", "kind": "python"})).ref
            spec = RunSpec(
                uuid7(),
                org,
                ref,
                "native",
                {"args": {"order": "A-4711"}},
            )
            submissions.submit(tx, [spec])
            tx.conn.execute(
                text(
                    "UPDATE tasks SET status = 'completed', started_at = created_at, finished_at = created_at"
                    " WHERE id = :id"
                ),
                {"id": spec.task_id},
            )
        fill(db, spec.task_id, stored)
        self.agent, self.task_id = ref.agent_id, spec.task_id
        self._few(db)

    def _few(self, db: Any) -> None:
        """The newest fifty have what the filters name: on both sides the same number is found."""
        newest = "SELECT id FROM tasks WHERE id < :id ORDER BY id DESC LIMIT 50"
        with db.begin() as conn:
            conn.execute(
                text(
                    "UPDATE tasks SET session_id = 's', end_user_id = 'e', parent_id = :id, created_by = 'key:few',"
                    " error_code = 'few'"
                    f" WHERE id IN ({newest})"
                ),
                {"id": self.task_id},
            )
        if db.is_postgres:
            with db.engine.connect() as conn:
                conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))

    def requests(self) -> dict[str, dict[str, str]]:
        """What the page asks for, by filter."""
        return {
            "no filter": {},
            "failed": {"status": "failed"},
            "three statuses": {"status": "running,failed,completed"},
            "agent": {"agent_id": self.agent},
            "agent, failed": {"agent_id": self.agent, "status": "failed"},
            "last week": {"created_after": _ago(7)},
            "a day, failed": {
                "status": "failed",
                "created_after": _ago(11),
                "created_before": _ago(10),
            },
            "session": {"session_id": "s"},
            "end user": {"end_user_id": "e"},
            "parent": {"parent_id": self.task_id},
            "started by": {"created_by": "key:few"},
            "error code": {"error_code": "few"},
            "ids": {"ids": self.task_id},
            "running": {"status": "running"},
        }

    def timed(self, given: dict[str, str], rows: int) -> tuple[float, int]:
        """Seconds that a page of so many rows at most takes, and how many it has."""
        began = time.perf_counter()
        answer: httpx2.Response = self.client.get("/api/v1/tasks", params=given | {"limit": str(rows)})
        took = time.perf_counter() - began
        assert answer.status_code == 200, answer.text
        return took, len(answer.json()["data"])


def _ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def compare(few: Page, many: Page, rounds: int) -> dict[str, float]:
    """The time beside many as a multiple of that beside few, by filter; printed."""
    found: dict[str, float] = {}
    asked = {page: page.requests() for page in (few, many)}
    for name in asked[few]:
        times: dict[Page, list[float]] = {few: [], many: []}
        rows = max(1, few.timed(asked[few][name], _ROWS)[1])  # both show as many: a row costs, too
        for _ in range(rounds + _WARM):
            for page in (few, many):
                times[page].append(page.timed(asked[page][name], rows)[0])
        low, high = (statistics.median(times[page][_WARM:]) for page in (few, many))
        found[name] = high / low
        print(f"  {name:<16}{1e3 * low:9.2f} ms{1e3 * high:9.2f} ms   ratio {high / low:5.2f}   {rows} rows")
    return found


def main() -> None:
    """Compare on each database."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--database", choices=["postgres", "sqlite"], action="append")
    given = parser.parse_args()
    for kind in given.database or ["postgres", "sqlite"]:
        with databases(kind) as (few_url, many_url), ExitStack() as stack:
            few, many = Page(stack, few_url, FEW), Page(stack, many_url, given.stored)
            print(f"{kind}: GET /tasks beside {FEW:,} tasks, beside {given.stored:,}")
            worst = max(compare(few, many, given.rounds).items(), key=lambda one: one[1])
            print(f"  the slowest ratio: {worst[1]:.2f} ({worst[0]}); wanted: below 1.5")


if __name__ == "__main__":
    main()
