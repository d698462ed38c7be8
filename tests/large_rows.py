"""Many large rows of one organisation: what its lists would hold if they were bounded in rows alone."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, insert, select

from runyard_common.tables import agents, human_tasks, identity, runs, schedules, sessions, webhooks
from runyard_common.values.ids import uuid7
from tests.api_server import Api

#: Rows of each kind, and bytes of each large value.
ROWS = 110
BYTES = 40_000
HEAVY = {"text": "x" * BYTES}
Row = dict[str, Any]


def copies(conn: Connection, table: Any, row_of: Callable[[Row, int], Row], count: int = ROWS) -> None:
    """Insert copies of the newest row of a table, each with the changes `row_of` makes."""
    columns = table.__table__.c
    newest = conn.execute(
        select(*columns).order_by(*(c.desc() for c in table.__table__.primary_key)).limit(1)
    )
    first = dict(newest.one()._mapping)
    rows = [first | row_of(first, number) for number in range(1, count + 1)]
    for row in rows:  # one by one: together they are more than one statement should hold
        conn.execute(insert(table.__table__), row)


def fill(api: Api, task_id: str, session_id: str, agent_id: str, schedule_id: str) -> None:
    """Give each table of the api's database many large rows, most of them of these."""
    with api.state.store.begin() as tx:
        conn = tx.conn
        copies(conn, runs.Task, lambda row, n: {
            "id": uuid7(), "session_id": session_id, "agent_id": agent_id, "schedule_id": schedule_id,
            "status": "failed" if n % 2 else "completed", "input": {"args": HEAVY}, "output": HEAVY,
            "error": {"code": "x", "message": "m" * BYTES} if n % 2 else None, "finished_at": tx.now,
            "lease_owner": None, "claim_token": None,
        })  # fmt: skip
        copies(conn, runs.TaskEvent, lambda row, n: {
            "task_id": task_id, "seq": 1000 + n, "type": "custom", "data": HEAVY,
        })  # fmt: skip
        conn.execute(runs.Task.__table__.update().where(runs.Task.id == task_id).values(last_seq=1000 + ROWS))
        copies(conn, sessions.Message, lambda row, n: {
            "id": uuid7(), "task_id": task_id, "session_id": session_id, "seq": 1000 + n, "content": "x" * BYTES,
            "type": "user_message", "role": "user", "unread": False,
        })  # fmt: skip
        _questions(conn, api, task_id, tx.now)
        _catalogue(conn, agent_id)
        copies(conn, schedules.Schedule, lambda row, n: {
            "id": str(uuid.uuid4()), "wake_at": None, "run": row["run"] | {"request": {"args": HEAVY}},
        })  # fmt: skip
        copies(conn, identity.Audit, lambda row, n: {"id": uuid7(), "data": HEAVY})
        copies(conn, identity.Application, lambda row, n: {
            "id": f"app_{uuid7()}", "is_default": False, "settings": HEAVY,
        })  # fmt: skip
        copies(
            conn, webhooks.Endpoint, lambda row, n: {"id": f"wh_{uuid7()}", "meta": {"t": "x" * 16_000}}, 19
        )


def _questions(conn: Connection, api: Api, task_id: str, now: float) -> None:
    rows: Iterable[Row] = (
        {"id": uuid7(), "org_id": api.state.org_id, "task_id": task_id, "key": f"k{n}", "kind": "question",
         "payload": {"text": "x" * BYTES}, "state": "open", "created_at": now}
        for n in range(ROWS)
    )  # fmt: skip
    for row in rows:
        conn.execute(insert(human_tasks.Question.__table__), row)


def _catalogue(conn: Connection, agent_id: str) -> None:
    """Versions of one agent, and agents of one version, with large manifests."""
    copies(conn, agents.AgentVersion, lambda row, n: {
        "id": uuid7(), "agent_id": agent_id, "number": 100 + n, "version": f"9.{n}.0", "status": "archived",
        "manifest": row["manifest"] | {"instructions": "x" * BYTES},
    })  # fmt: skip
    fields = {"instructions": "x" * BYTES, "description": "d", "dependencies": {"a": HEAVY}}
    made: list[tuple[str, str]] = [(uuid7(), uuid7()) for _ in range(ROWS)]
    copies(conn, agents.AgentVersion, lambda row, n: {
        "id": made[n - 1][1], "agent_id": made[n - 1][0], "number": 1, "version": "1.0.0", "status": "published",
        "manifest": row["manifest"] | fields,
    })  # fmt: skip
    copies(conn, agents.Agent, lambda row, n: {
        "id": made[n - 1][0], "name": f"@large/agent-{n}", "slug": f"agent_{n}", "version_id": made[n - 1][1],
        "shared": False,
    })  # fmt: skip
