"""Metrics on real parts: what runs leave in the families, and what the queue looks like to a scrape."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from runyard import Context
from runyard_common.database.start_checks import Process
from runyard_common.metrics import counting, exposure
from runyard_common.metrics import installation as queue
from runyard_common.metrics.installation import Installation as Gauges
from runyard_common.runs.rules.lifecycle import Status
from tests.api_server import Api
from tests.installation import Installation
from tests.waiting import wait_until


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    """What a worker shows, counting while the test runs."""
    counting.begin(Process.WORKER)
    yield exposure.registry_of(Process.WORKER)
    counting.end()


def test_a_run_is_counted_where_it_is_committed_and_timed_where_it_runs(
    database_url: str, registry: CollectorRegistry
) -> None:
    asyncio.run(_count(database_url, registry))


async def _count(database_url: str, registry: CollectorRegistry) -> None:
    counted = {
        "submitted": ("runyard_run_events_total", {"event": "submit"}),
        "claimed": ("runyard_run_events_total", {"event": "claim"}),
        "finished": ("runyard_run_events_total", {"event": "finish"}),
        "failed": ("runyard_run_failures_total", {"cause": "agent"}),
        "first waits": ("runyard_run_wait_seconds_count", {}),
        "waits": ("runyard_claim_wait_seconds_count", {}),
        "attempts that finished": ("runyard_attempt_seconds_count", {"outcome": "finished"}),
        "attempts that failed": ("runyard_attempt_seconds_count", {"outcome": "failed"}),
    }

    def look() -> dict[str, float]:
        return {what: registry.get_sample_value(*series) or 0.0 for what, series in counted.items()}

    async def good(ctx: Context, args: dict[str, int]) -> int:
        return 1

    async def bad(ctx: Context, args: dict[str, int]) -> int:
        raise ValueError("no")

    async with Installation(database_url) as site:
        before = look()
        batches = registry.get_sample_value("runyard_group_commit_commands_count") or 0
        names = [site.publish(good), site.publish(bad, retries=0)]
        engine = await site.engine()
        for task_id in [await site.submit(name, {}) for name in names]:
            await site.ended(task_id)
        await engine._runs.ended()
        assert {what: count - before[what] for what, count in look().items()} == {
            "submitted": 2, "claimed": 2, "finished": 1, "failed": 1, "first waits": 2, "waits": 2,
            "attempts that finished": 1, "attempts that failed": 1,
        }  # fmt: skip
        assert (registry.get_sample_value("runyard_group_commit_commands_count") or 0) > batches


def test_the_queue_is_shown_by_what_keeps_runs(database_url: str) -> None:
    asyncio.run(_show_queue(database_url))


async def _show_queue(database_url: str) -> None:
    go = asyncio.Event()

    async def one_at_a_time(ctx: Context, args: dict[str, int]) -> None:
        await go.wait()

    async with Installation(database_url) as site:
        name = site.publish(one_at_a_time, max_concurrent=1)
        await site.engine()
        first = await site.submit(name, {})
        await site.until(first, Status.RUNNING)
        second = await site.submit(name, {})
        await site.until(second, Status.QUEUED)
        with site.store.read() as conn:
            found = queue.look(conn, site.db.now(conn), 10)
        assert {by: runs for by, (runs, _) in found.kept.items() if runs} == {"limit_agent": 1}
        assert found.kept["limit_agent"][1] >= 0
        assert found.plain["running"] == 1
        shown = generate_latest(Gauges(site.store, 10)).decode()
        assert 'runyard_queue_runs{by="limit_agent"} 1.0' in shown
        go.set()
        await site.ended(second)


def test_a_method_that_is_none_makes_no_series_of_its_own(tmp_path: Path) -> None:
    with Api(tmp_path / "home") as api, api.client() as client:

        def refused() -> float:
            series = re.search(
                r'method="other",operation="none",status="405"} (\S+)', client.get("/metrics").text
            )
            return float(series[1]) if series else 0.0

        before = refused()  # of this process, in which others may have been refused
        for word in ("MKCOL", "PROPFIND"):
            assert client.request(word, "/healthz").status_code == 405
        wait_until(lambda: refused() == before + 2)  # counted behind the answer
        assert "MKCOL" not in client.get("/metrics").text


def test_the_api_answers_in_open_metrics_where_that_is_asked_for(tmp_path: Path) -> None:
    with Api(tmp_path / "home") as api, api.client() as client:
        asked = {"accept": "application/openmetrics-text; version=1.0.0"}
        answer = client.get("/metrics", headers=asked)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
