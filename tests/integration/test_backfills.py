"""Runs that are made up for know the time they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runyard import Context
from tests.api_server import settled
from tests.integration.test_native_human_tasks import installed

pytestmark = pytest.mark.anyio


async def test_an_agent_knows_the_due_time_that_it_runs_for(tmp_path: Path) -> None:
    async def report(ctx: Context, args: dict[str, Any]) -> Any:
        return ctx.task.due_at

    async with installed(tmp_path) as (_, site, client):
        name = site.publish(report)
        schedule = {"agent": name, "schedule": "0 0 * * *", "run": {"args": {}}}
        made = (await client.post("/api/v1/schedules", json=schedule)).json()
        asked = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
        late = await client.post(f"/api/v1/schedules/{made['id']}/backfill", json=asked)
        outputs = [(await settled(client, run["task_id"]))["output"] for run in late.json()["data"]]
        assert outputs == [1_767_225_600.0, 1_767_312_000.0]
        own = await client.post(f"/api/v1/agents/{name}/run", json={"args": {}})
        assert (await settled(client, own.json()["task_id"]))["output"] is None
