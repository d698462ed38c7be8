"""The end of a run, of any kind, ends the tool calls that its log shows as begun, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from runyard import Context
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks.service import answers
from runyard_common.human_tasks.service.answers import Decision
from runyard_common.runs.queries import events, journal
from runyard_common.runs.queries.transitions import lock
from runyard_common.runs.rules.journal import JournalEntry
from runyard_common.runs.rules.lifecycle import Cause, Status
from runyard_common.runs.rules.tasks import Failure
from runyard_common.runs.service import attempts, cancellations, rescues
from runyard_common.runs.service.attempts import Asked, Fail, Suspend
from tests.installation import Installation

pytestmark = pytest.mark.anyio
Data = dict[str, Any]


async def hangs(ctx: Context, args: Data) -> None:
    await asyncio.sleep(60)


def call(turn: int, id_: str, **line: str) -> tuple[str, Data]:
    return "tool_call", {"turn": turn, "agent": "a", "id": id_, "tool": f"t-{id_}", "arguments": {}, **line}


def result(turn: int, id_: str, **line: str) -> tuple[str, Data]:
    return "tool_result", {
        "turn": turn,
        "id": id_,
        "tool": f"t-{id_}",
        "outcome": "ok",
        "result": "x" * 5_000,
    } | line


async def begun(site: Installation, *logged: tuple[str, Data]) -> str:
    """A run under way whose log has these entries."""
    name = site.publish(hangs)
    if not site.engines:
        await site.engine()
    task_id = await site.submit(name)
    await site.until(task_id, Status.RUNNING)
    append = [(task_id, type_, data) for type_, data in logged]
    site.transact(lambda tx: events.append(tx, lock(tx, [task_id]), append))
    return task_id


def closed(site: Installation, task_id: str) -> list[Data]:
    """What the log has on calls that were ended from outside; its numbers have no gaps."""
    site.events(task_id)
    with site.store.read() as conn:
        found = events.after(OrgScope(conn, site.org), task_id, 0, 1000)
    return [one["data"] for one in found if one["type"] == "tool_result" and "code" in one["data"]]


def stop(tx: Tx, site: Installation, task_id: str) -> None:
    cancellations.cancel_tasks(tx, [task_id], "no longer needed")


def fail(tx: Tx, site: Installation, task_id: str) -> None:
    failure = Failure("timeout", "Out of time.", Cause.DEADLINE)
    attempts.fail(tx, [Fail(task_id, site.task(task_id).fence, failure)])


def lose(tx: Tx, site: Installation, task_id: str) -> None:
    rescues.blame(tx, task_id, site.task(task_id).fence, rescues.blocked_loop(5.0))


@pytest.mark.parametrize(
    ("end", "outcome", "code"),
    [(stop, "stopped", "stopped"), (fail, "failed", "timeout"), (lose, "failed", "agent_blocked_loop")],
    ids=["stopped", "timed out", "its worker lost"],
)
async def test_what_ends_a_run_ends_its_open_calls(
    database_url: str, end: Callable[..., None], outcome: str, code: str
) -> None:
    async with Installation(database_url) as site:
        flow = {"workflow": "w", "step": "s"}
        logged = (
            call(1, "a"),
            result(1, "a"),
            call(2, "a"),
            call(2, "b"),
            result(2, "b"),
            call(2, "a", **flow),
        )
        task_id = await begun(site, *logged)

        site.transact(lambda tx: end(tx, site, task_id))

        task = await site.ended(task_id)
        ends = closed(site, task_id)
        assert [(one["turn"], one["id"], one["tool"], one.get("step")) for one in ends] == [
            (2, "a", "t-a", None), (2, "a", "t-a", "s"),
        ]  # fmt: skip
        assert {(one["outcome"], one["code"]) for one in ends} == {(outcome, code)}
        assert task.error is not None
        assert all(task.error["message"] in one["result"] for one in ends)


async def test_a_call_of_long_ago_is_found_and_a_run_without_one_has_nothing_to_end(
    database_url: str,
) -> None:
    async with Installation(database_url) as site:
        later = [entry for turn in range(2, 252) for entry in (call(turn, "x"), result(turn, "x"))]
        old = await begun(site, call(1, "old"), *later)
        none = await begun(site, call(1, "a"), result(1, "a"))

        site.transact(lambda tx: cancellations.cancel_tasks(tx, [old, none], "enough"))

        assert [one["id"] for one in closed(site, old)] == ["old"]
        assert closed(site, none) == []


async def test_a_call_that_an_operator_skips_is_shown_with_the_given_result(database_url: str) -> None:
    async with Installation(database_url) as site:
        task_id = await begun(site, call(1, "pay"), call(1, "other"))
        step = "turn#1/pay"
        payload = {"kind": "unknown_outcome", "step": step, "decisions": ["redo", "skip", "fail"]}
        fence = site.task(task_id).fence
        entry = JournalEntry(task_id, 1, step, 1, "tool", "pay", "irreversible", None, "begun")
        site.transact(lambda tx: journal.insert_new(tx, [entry]))
        asked = (Asked(f"{step}!1", "review", payload),)
        site.transact(lambda tx: attempts.suspend(tx, [Suspend(task_id, fence, asked)]))

        decision = Decision("skip", result={"paid": True})
        site.transact(lambda tx: answers.review(tx, site.org, task_id, decision, "op"))

        with site.store.read() as conn:
            found = events.after(OrgScope(conn, site.org), task_id, 0, 100)
        [ended] = [one["data"] for one in found if one["type"] == "tool_result"]
        assert (ended["id"], ended["outcome"], ended["result"]) == ("pay", "ok", {"paid": True})
        site.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "enough"))
        assert [one["id"] for one in closed(site, task_id)] == ["other"]
