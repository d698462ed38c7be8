"""A completed run shows no error of an earlier attempt: on every surface, and in rows of old."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from runyard import AgentError, Context
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.tables.query import Delivery, Task
from tests.api_server import Api, settled, workers_of
from tests.installation import Installation

pytestmark = pytest.mark.anyio
EARLIER = {"code": "worker_lost", "message": "The worker was lost.", "cause": "infrastructure", "attempt": 1}


async def second_time_lucky(ctx: Context, args: dict[str, Any]) -> str:
    """Fails once."""
    if ctx.task.attempt == 1:
        raise AgentError("not yet", code="flaky", retryable=True)
    return "done"


@pytest.fixture
async def served(home: Path) -> AsyncIterator[tuple[Api, Installation, httpx2.AsyncClient]]:
    """An api, a worker and a client."""
    with Api(home) as api:
        async with workers_of(api) as site, api.async_client() as client:
            yield api, site, client


async def test_it_is_so_after_an_attempt_that_failed(
    served: tuple[Api, Installation, httpx2.AsyncClient],
) -> None:
    api, site, client = served
    hook = {"url": "https://example.com/hook", "events": ["run.completed"]}
    assert (await client.post("/api/v1/webhooks", json=hook)).status_code == 201
    rule = {"agent": {"budget": 1, "base_s": 0.0, "cap_s": 0.0}}
    name = site.publish(second_time_lucky, retries=rule)
    task_id = await site.submit(name, {})
    ended = await settled(client, task_id)
    assert (ended["status"], ended["attempt"], ended["error"]) == ("completed", 2, None)
    events = (await client.get(f"/tasks/{task_id}/events", headers={"accept": "application/json"})).json()
    (retry,) = [event for event in events["data"] if event["type"] == "retry"]
    assert retry["data"]["error"]["code"] == "flaky"
    with api.state.store.read() as conn:
        payloads = [json.loads(body) for body in conn.execute(select(Delivery.body)).scalars()]
    assert [body["data"]["error"] for body in payloads] == [None]


async def test_it_is_so_for_rows_that_an_earlier_version_has_left(
    served: tuple[Api, Installation, httpx2.AsyncClient],
) -> None:
    _, site, client = served
    name = site.publish(second_time_lucky, retries=1)
    task_id = await site.submit(name, {})
    old = update(Task).where(Task.id == task_id)
    old = old.values(status="completed", error=EARLIER, output="done", finished_at=1.0, started_at=0.5)
    site.transact(lambda tx: tx.conn.execute(old))
    shown = [
        (await client.get(path)).text
        for path in (
            f"/api/v1/tasks/{task_id}",
            f"/api/v1/tasks/{task_id}/result",
            f"/api/v1/tasks/{task_id}/summary",
            "/api/v1/tasks",
            f"/tasks/{task_id}",
            f"/api/runs/exec_{task_id}",
            f"/api/agents/{name}/runs",
            f"/api/agent/executions/{task_id}",
            f"/api/runs/exec_{task_id}/logs",
        )
    ]
    assert "completed" in shown[0]
    assert not [text for text in shown if "worker_lost" in text or "was lost" in text]


async def test_a_run_that_goes_on_shows_no_error_as_its_result(
    served: tuple[Api, Installation, httpx2.AsyncClient],
) -> None:
    _, site, client = served
    name = site.publish(second_time_lucky, retries=1)
    task_id = await site.submit(name, {}, blocked_by=BlockedBy.schedule("none"))
    site.transact(lambda tx: tx.conn.execute(update(Task).where(Task.id == task_id).values(error=EARLIER)))
    assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["error"] is None
    assert "error" not in (await client.get(f"/api/v1/tasks/{task_id}/summary")).json()
