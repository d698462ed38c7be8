"""Journals of megabytes: a run goes on behind all that it has done, and its worker holds a part of it at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runyard import Context
from runyard_common.database.pages import MOST_BYTES
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import journal
from runyard_common.runs.rules.journal import JournalEntry, Unread
from runyard_common.runs.rules.lifecycle import Status
from runyard_workers.attempts.replay import Replay
from tests.installation import Installation

SIZE = 2**20
STEPS = 3 * MOST_BYTES // SIZE


async def _work(n: int) -> str:
    return f"{n}:" + "x" * SIZE


async def in_a_row(ctx: Context, args: dict[str, Any]) -> list[str]:
    """Large steps, a question, and a step behind it."""
    done = [await ctx.step("large", _work, n) for n in range(STEPS)]
    await ctx.ask("Go on?")
    return [*(one[:4] for one in done), (await ctx.step("last", _work, STEPS))[:4]]


async def at_once(ctx: Context, args: dict[str, Any]) -> list[str]:
    """The same in two tasks, the second of which has to wait for the first."""
    first: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def leads() -> str:
        for n in range(STEPS // 2):
            last = await ctx.step("leads", _work, n)
        first.set_result(last)
        return str(last)

    async def follows() -> str:
        last = await first
        for n in range(STEPS // 2, STEPS):
            last = await ctx.step("follows", _work, n)
        return last

    done = await asyncio.gather(leads(), follows())
    await ctx.ask("Go on?")
    return [one[:4] for one in done]


@pytest.mark.anyio
@pytest.mark.parametrize("code", [in_a_row, at_once])
async def test_a_run_goes_on_behind_a_journal_of_many_megabytes(
    database_url: str, code: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    values = journal.values

    def counted(conn: Any, task_id: str, keys: Any) -> dict[str, Any]:
        reads.append(len(keys))
        return values(conn, task_id, keys)

    monkeypatch.setattr(journal, "values", counted)
    async with Installation(database_url) as site:
        name = site.publish(code)
        await site.engine()
        task_id = await site.submit(name)
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        assert not reads
        await asyncio.to_thread(
            site.transact, lambda tx: answers.post_message(tx, site.org, task_id, "yes", "me")
        )
        task = await site.ended(task_id)
    assert task.status is Status.COMPLETED, task.error
    heads = [f"{n}:" + "x" * 4 for n in range(STEPS + 1)]
    assert task.output == [
        one[:4] for one in (heads if code is in_a_row else (heads[STEPS // 2 - 1], heads[STEPS - 1]))
    ]
    assert sum(reads) == STEPS - MOST_BYTES // SIZE + 1  # the first ones came with the outline
    assert len(reads) <= 3


def test_a_replay_reads_what_follows_within_its_room_and_forgets_what_was_recalled() -> None:
    entries = [
        JournalEntry("t", 1, f"s#{n}", n, "step", "s", "read", None, "done", Unread(10)) for n in range(1, 9)
    ]
    replay = Replay(None, entries, keeps_values=False)  # type: ignore[arg-type]
    assert replay.unread("s#1", 35, 100) == ["s#1", "s#2", "s#3"]
    replay.fill({"s#1": 1, "s#2": 2, "s#3": 3})
    assert replay.unread("s#8", 35, 100) == ["s#8"]
    found = replay.recall("s#1", "step")
    assert found is not None
    assert found.value == 1
    replay.forget("s#1")
    kept = replay.entry("s#1")
    assert kept is not None
    assert kept.value is None
    assert replay.unread("s#4", 35, 100) == ["s#4"]
    assert replay.unread("s#4", 350, 2) == ["s#4", "s#5"]
    assert replay.unused() == [f"s#{n}" for n in range(2, 9)]
