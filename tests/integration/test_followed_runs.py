"""`--follow` shows what happens, when it happens: texts, fractions, data, violations, options, and why it waits."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import select, update

from runyard import AgentError, Client, Context
from runyard.client_results import Event
from runyard_common.human_tasks.service import answers
from runyard_common.tables.query import TaskEvent
from runyard_launch.cli import following
from runyard_launch.run_printer import RunPrinter
from tests.api_server import Api, settled, workers_of

pytestmark = pytest.mark.anyio
RULE = {"agent": {"budget": 1, "base_s": 0.0, "cap_s": 0.0}}


async def busy(ctx: Context, args: dict[str, Any]) -> str:
    """Reports in every way, is tried again, and asks."""
    if ctx.task.attempt == 1:
        raise AgentError("not yet", code="flaky", retryable=True)
    await ctx.progress(0.25, "counting [red]sheep[/]")
    await ctx.log("low on wool", level="warn")
    await ctx.emit("herd", {"sheep": 3})
    print("baa")
    return str(await ctx.ask("Which colour?", options=["white", "black"]))


async def broken(ctx: Context, args: dict[str, Any]) -> None:
    """Fails."""
    raise KeyError("wolf")


async def test_a_run_is_shown_with_all_that_it_reported_at_the_times_of_its_events(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Api(home) as api, Client(api.url, api.key) as cli:
        async with workers_of(api) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(busy, retries=RULE), {})
            await settled(client, task_id, "waiting_for_input")
            code = await asyncio.to_thread(lambda: following.follow_run(cli, cli.get(task_id), False))
            waiting = capsys.readouterr().err
            assert code == 4
            assert "? Which colour? (white | black)" in waiting
            (question,) = site.questions(task_id)
            site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "white", "t", question.id))
            await settled(client, task_id)
            # As if it had run an hour long, yesterday.
            with site.store.read() as conn:
                seqs = list(conn.execute(select(TaskEvent.seq).where(TaskEvent.task_id == task_id)).scalars())
            for seq in seqs:
                slow = update(TaskEvent).where(TaskEvent.task_id == task_id, TaskEvent.seq == seq)
                with site.store.begin() as tx:
                    tx.conn.execute(slow.values(at=1e9 + 60.0 * seq))
            code = await asyncio.to_thread(lambda: following.follow_run(cli, cli.get(task_id), False))
    assert code == 0
    text = capsys.readouterr().err
    assert "queued: tried again in 0.0 s, after flaky: not yet" in text
    assert "progress 25 % counting [red]sheep[/]" in text
    assert "warn: low on wool" in text
    assert 'herd {"sheep": 3}' in text
    assert "info stdout: baa" in text
    times = [float(found) for found in re.findall(r"^ *(\d+\.\d\d) s  ", text, re.MULTILINE)]
    assert times == sorted(times)
    assert times[-1] == 60.0 * (len(seqs) - 1)


async def test_a_failed_run_is_shown_with_its_traceback(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Api(home) as api, Client(api.url, api.key) as cli:
        async with workers_of(api) as site:
            task_id = await site.submit(site.publish(broken), {})
            code = await asyncio.to_thread(lambda: following.follow_run(cli, cli.get(task_id), False))
    text = capsys.readouterr().err
    assert code == 1
    assert "agent_error: KeyError: 'wolf'" in text
    assert f'File "{Path(__file__).resolve()}"' in text
    assert 'raise KeyError("wolf")' in text


@pytest.mark.parametrize(
    ("type_", "data", "expected"),
    [
        ("output_invalid", {"repair": 1, "violations": [{"path": "$.n", "message": "not a number"}]},
         "output_invalid, repair 1\n              $.n: not a number"),
        ("hold", {"status": "queued", "held_by": "agent:@a/b"}, "queued: held by agent:@a/b"),
        ("submit", {"status": "pending", "held_by": None}, "pending"),
        ("wait", {"status": "queued", "child": "c1"}, "queued: until its run c1 has ended"),
        ("release", {"status": "queued", "reason": "drain"}, "queued: handed back by its worker (drain)"),
        ("rescue", {"status": "queued", "loss": "silent"}, "queued: its worker was lost (silent)"),
        ("review", {"status": "awaiting_review", "asked": [{"text": "Approve: pay", "arguments": {"n": 1}}]},
         'awaiting_review\n    0.00 s  ? Approve: pay {"n": 1}'),
        ("message", {"text": "Hello [b]"}, "Hello [b]"),
        ("step", {"name": "total"}, "step total"),
        ("stop", {"status": "stopped", "reason": "enough"}, "stopped: enough"),
    ],
)  # fmt: skip
def test_each_event_has_its_words(type_: str, data: dict[str, Any], expected: str) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    RunPrinter(console).event(Event("t", 1, type_, 1, data, "2026-01-01T00:00:00Z"))
    assert console.export_text() == f"    0.00 s  {expected}\n"


def test_the_words_of_a_model_are_shown_once() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    printer = RunPrinter(console)
    printer.event(Event("t", 0, "token", 1, {"text": "Hello"}))
    printer.event(Event("t", 4, "message", 1, {"text": "Hello"}, "2026-01-01T00:00:00Z"))
    printer.event(Event("t", 5, "message", 1, {"text": "Again"}, "2026-01-01T00:00:01Z"))
    printer.end_line()
    text = console.export_text()
    assert text.count("Hello") == 1
    assert "1.00 s  Again" in text
