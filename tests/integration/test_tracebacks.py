"""An agent's exception keeps its traceback: for the agent's own organisation and the worker's log only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from runyard import AgentError, BlockingContext, Context, agent
from runyard.testing import run
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import events, workers
from runyard_common.runs.service import claims, rescues
from runyard_common.values.ids import uuid7
from runyard_workers.agent_code.tracebacks import LONGEST, rendered
from tests.api_server import Api, settled, workers_of
from tests.installation import Installation

pytestmark = pytest.mark.anyio
HERE = Path(__file__).resolve()


def line_of(text: str) -> int:
    """The first line of this file that holds `text`."""
    return next(n for n, line in enumerate(HERE.read_text().splitlines(), 1) if text in line)


def look_up(prices: dict[str, str], key: str) -> str:
    """Fails for what is not there."""
    return prices[key]


async def priced(ctx: Context, args: dict[str, Any]) -> Any:
    """Fails with a cause, in a step."""
    try:
        return await ctx.step("price", look_up, {}, "pear")
    except KeyError as error:
        raise ValueError("no price") from error


async def deep(ctx: Context, args: dict[str, Any]) -> None:
    """Recurses without an end."""
    await deep(ctx, args)


async def refusing(ctx: Context, args: dict[str, Any]) -> None:
    """Refuses."""
    raise AgentError("no", code="refused", why="because")


async def test_the_run_shows_the_authors_frames_with_file_line_and_causes(home: Path) -> None:
    with Api(home) as api:
        async with workers_of(api) as site, api.async_client() as client:
            with capture_logs() as logs:
                task = await settled(client, await site.submit(site.publish(priced), {}))
            events_ = await client.get(
                f"/tasks/{task['task_id']}/events", headers={"accept": "application/json"}
            )
    shown = task["error"]["details"]["traceback"]
    lines = shown.splitlines()
    assert lines[0] == "ValueError: no price"
    assert lines[1] == f'  File "{HERE}", line {line_of("raise ValueError")}, in priced'
    assert "caused by KeyError: 'pear'" in lines
    assert f'  File "{HERE}", line {line_of("return prices[key]")}, in look_up' in lines
    assert "    return prices[key]" in lines
    assert "runyard_workers" not in shown
    assert "asyncio" not in shown
    assert events_.json()["data"][-1]["data"]["error"]["details"]["traceback"] == shown
    (logged,) = [entry for entry in logs if entry.get("action") == "fail"]
    assert (logged["exception"], logged["task"]) == (shown, task["task_id"])


async def test_other_organisations_that_run_a_shared_agent_see_none_of_its_source(database_url: str) -> None:
    async with Installation(database_url) as site:
        name = site.publish(priced)
        await site.engine()
        with capture_logs() as logs:
            task = await site.ended(await site.submit(name, {}, org_id=uuid7()))
        with site.store.read() as conn:
            logged = json.dumps(
                [event["data"] for event in events.after(OrgScope(conn, task.org_id), task.id, 0, 100)]
            )
    assert task.error is not None
    assert (task.error["code"], task.error.get("details")) == ("agent_error", None)
    assert str(HERE.parent) not in json.dumps(task.error) + logged
    assert next(entry["exception"] for entry in logs if entry.get("action") == "fail").count("File") >= 2


@pytest.mark.parametrize("own", [True, False])
async def test_the_stack_of_a_blocked_loop_is_for_the_agents_own_organisation(
    database_url: str, own: bool
) -> None:
    async with Installation(database_url) as site:
        name = site.publish(priced)
        task_id = await site.submit(name, {}, org_id=site.org if own else uuid7())

        def claimed(tx: Tx) -> None:
            workers.enlist(tx, "w", "host", 1, 1, 60.0)
            (batch,) = claims.claim(tx, [claims.Claim("w", 1)])
            assert isinstance(batch, claims.Batch)
            assert [one.task.id for one in batch.claimed] == [task_id]

        site.transact(claimed)
        site.transact(lambda tx: rescues.leave_blocked(tx, "w", task_id, 9.0, 'File "/srv/secret.py"'))
        error = site.task(task_id).error
    assert error is not None
    assert error["code"] == "agent_blocked_loop"
    assert ("/srv/secret.py" in json.dumps(error)) is own


async def test_an_endless_recursion_has_a_short_traceback(database_url: str) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(deep), {}))
    assert task.error is not None
    shown = task.error["details"]["traceback"]
    assert len(shown) <= LONGEST
    assert shown.splitlines()[1].endswith("in deep")
    assert " more" in shown


async def test_an_agents_own_error_has_the_details_it_gave_and_nothing_else(database_url: str) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(refusing), {}))
    assert task.error is not None
    assert (task.error["code"], task.error["details"]) == ("refused", {"why": "because"})


def test_a_group_shows_its_errors_and_odd_errors_do_no_harm() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    try:
        try:
            look_up({}, "a")
        except KeyError as error:
            raise ExceptionGroup("both", [error, Odd()]) from None
    except ExceptionGroup as group:
        text = rendered(group)
    assert "1. KeyError: 'a'" in text
    assert "2. Odd" in text
    assert text.count("in look_up") == 1
    assert rendered(ValueError("never raised")) == ""


def _times_out() -> None:
    raise TimeoutError("late") from KeyError("why")


@agent("@traces/plain")
def _plain(ctx: BlockingContext, args: dict[str, Any]) -> None:
    _times_out()


@agent("@traces/plain_step")
async def _plain_step(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.step("wait", _times_out)


@agent("@traces/process", isolation="process")
async def _process(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.step("wait", _times_out)


@pytest.mark.parametrize("fn", [_plain, _plain_step, _process])
def test_a_timeout_error_from_a_thread_has_its_traceback_and_its_cause(fn: Any) -> None:
    error = run(fn, processes=fn is _process).error
    assert error is not None
    assert error["message"].startswith("TimeoutError: late (caused by KeyError: 'why')")
    assert "in _times_out" in error["details"]["traceback"]
