"""What an agent prints and logs reaches its run, and goes on to where its author sends it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runyard import BlockingContext, Context
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import events
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.values.ids import uuid7
from runyard_workers.agent_code import run_output
from runyard_workers.agent_code.run_output import LONGEST_LINE
from runyard_workers.agent_code.values import Bounds
from tests.installation import Installation

pytestmark = pytest.mark.anyio
shop_log = logging.getLogger("shop")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The streams of this process as they were."""
    before = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = before


def lines(site: Installation, task_id: str, org_id: str = "") -> list[tuple[str, str, str | None]]:
    """(level, message, source) of a run's log lines."""
    with site.store.read() as conn:
        found = [
            e["data"]
            for e in events.after(OrgScope(conn, org_id or site.org), task_id, 0, 100_000)
            if e["type"] == "log"
        ]
    return [(line["level"], line["message"], line.get("source")) for line in found]


def in_a_step() -> int:
    """Prints in the thread of a step."""
    print("in a step")
    return 1


async def talker(ctx: Context, args: dict[str, Any]) -> str:
    """Prints and logs by every way, its own events in between."""
    print("begins", 1)
    await ctx.log("logged")
    print("unfinished, ", end="")
    print("finished")
    await ctx.step("count", in_a_step)
    await asyncio.create_task(asyncio.to_thread(print, "in a thread"))
    thread = threading.Thread(target=print, args=("in its own thread",))
    thread.start()
    thread.join()
    print("oh", file=sys.stderr)
    shop_log.debug("not enabled")
    shop_log.info("sold %d", 3)
    shop_log.warning("low")
    try:
        raise KeyError("pear")
    except KeyError:
        shop_log.exception("broke")
    sys.stdout.write("last, without an end")
    return "done"


def plain(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Prints in a plain agent."""
    print("plainly")


async def asker(ctx: Context, args: dict[str, Any]) -> str:
    """Logs and prints around a question."""
    print(f"attempt {ctx.task.attempt}")
    await ctx.log("once")
    return str(await ctx.ask("Well?"))


async def flood(ctx: Context, args: dict[str, Any]) -> str:
    """Prints more than a run may keep."""
    for number in range(40):
        print(f"line {number}")
    print("x" * 100_000)
    await ctx.log("still allowed")
    return "done"


async def failing(ctx: Context, args: dict[str, Any]) -> None:
    """Prints, and fails at once."""
    print("before the end")
    raise ValueError("end")


async def test_lines_stand_in_order_among_the_runs_other_events(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(talker), {})
        assert (await site.ended(task_id)).status is Status.COMPLETED
        found = lines(site, task_id)
        assert site.events(task_id)[-1] == "finish"
    *most, broke, last = found
    assert most == [
        ("info", "begins 1", "stdout"),
        ("info", "logged", None),
        ("info", "unfinished, finished", "stdout"),
        ("info", "in a step", "stdout"),
        ("info", "in a thread", "stdout"),
        ("info", "in its own thread", "stdout"),
        ("warn", "oh", "stderr"),
        ("info", "sold 3", "logging"),
        ("warn", "low", "logging"),
    ]
    assert broke[0] == "error"
    assert broke[1].startswith("broke\nTraceback")
    assert "KeyError: 'pear'" in broke[1]
    assert last == ("info", "last, without an end", "stdout")
    printed = capsys.readouterr()
    own = "".join(line for line in printed.out.splitlines(True) if "action=log" not in line)
    assert "begins 1\nunfinished, finished\nin a step\n" in own
    assert "oh" in printed.err


async def test_runs_side_by_side_and_the_process_itself_keep_their_lines_apart(database_url: str) -> None:
    async def counting(ctx: Context, args: dict[str, Any]) -> None:
        for number in range(20):
            print(f"{args['me']} {number}")
            await asyncio.sleep(0)

    async with Installation(database_url) as site:
        await site.engine()
        name = site.publish(counting)
        tasks = [await site.submit(name, {"me": f"run {n}"}) for n in range(5)]
        print("of no run")
        for number, task_id in enumerate(tasks):
            await site.ended(task_id)
            assert [text for _, text, _ in lines(site, task_id)] == [f"run {number} {n}" for n in range(20)]


async def test_a_plain_agent_a_failing_one_and_a_suspended_one_keep_what_they_printed(
    database_url: str,
) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        in_thread = await site.submit(site.publish(plain), {})
        failed = await site.submit(site.publish(failing), {})
        asking = await site.submit(site.publish(asker), {})
        await site.ended(in_thread)
        await site.ended(failed)
        await site.until(asking, Status.WAITING_FOR_INPUT)
        assert lines(site, in_thread) == [("info", "plainly", "stdout")]
        assert lines(site, failed) == [("info", "before the end", "stdout")]
        (question,) = site.questions(asking)
        site.transact(lambda tx: answers.post_message(tx, site.org, asking, "yes", "test", question.id))
        assert (await site.ended(asking)).output == "yes"
        # What ctx.log has reported is not reported again; what code prints again is printed again.
        assert [text for _, text, _ in lines(site, asking)] == ["attempt 1", "once", "attempt 2"]


async def test_a_flood_is_bounded_with_a_note_and_takes_nothing_from_the_agents_own_events(
    database_url: str,
) -> None:
    async with Installation(database_url, bounds=Bounds(events=10)) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(flood), {}))
        found = lines(site, task.id)
    assert task.status is Status.COMPLETED
    assert [text for _, text, _ in found[:10]] == [f"line {n}" for n in range(10)]
    assert found[10][:2] == ("warn", "Further lines are only in the worker's log: a run keeps 10 of them.")
    assert found[11:] == [("info", "still allowed", None)]


async def test_other_organisations_that_run_a_shared_agent_are_shown_none_of_it(database_url: str) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(talker), {}, org_id=uuid7()))
        assert lines(site, task.id, task.org_id) == [("info", "logged", None)]


async def test_the_authors_logging_is_left_alone(database_url: str) -> None:
    handled: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handled.append(record.getMessage())
            print(f"formatted {record.getMessage()}", file=sys.stderr)

    quiet = logging.getLogger("shop.quiet")
    quiet.setLevel(logging.ERROR)
    quiet.propagate = False
    quiet.addHandler(handler := Handler())
    before = list(logging.root.handlers), logging.root.level

    async def careful(ctx: Context, args: dict[str, Any]) -> None:
        quiet.info("not wanted")
        quiet.error("wanted")

    try:
        async with Installation(database_url) as site:
            await site.engine()
            task = await site.ended(await site.submit(site.publish(careful), {}))
            assert lines(site, task.id) == [("error", "wanted", "logging")]
    finally:
        quiet.removeHandler(handler)
    assert handled == ["wanted"]
    assert (list(logging.root.handlers), logging.root.level) == before


async def test_threads_of_executors_do_not_keep_the_run_that_started_them(database_url: str) -> None:
    pool = ThreadPoolExecutor(1)

    async def starts(ctx: Context, args: dict[str, Any]) -> None:
        context = contextvars.copy_context()
        await asyncio.wrap_future(pool.submit(context.run, print, "mine"))
        await asyncio.wrap_future(pool.submit(print, "of no run"))

    async with Installation(database_url) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(starts), {}))
        assert lines(site, task.id) == [("info", "mine", "stdout")]
    pool.shutdown()


async def test_long_lines_are_cut_and_odd_ones_stored() -> None:
    kept: list[Any] = []

    async def store(entries: Any) -> None:
        kept.extend(data["message"] for _, data in entries)

    output = run_output.RunOutput(store, Bounds())
    for text in ("x" * 100_000, "nul \0 and \ud800 half", "   ", ""):
        output.line("stdout", "info", text)
    await output.flush()
    assert len(kept) == 2
    assert len(kept[0]) == LONGEST_LINE
    assert kept[1].encode()
