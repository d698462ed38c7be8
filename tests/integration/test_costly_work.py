"""Costly work beside the event loop: in turn for each party, never at another's expense, never in a transaction."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from runyard_common import costly as costly_work
from runyard_common.costly import CostlyWork
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import claims
from runyard_common.values.json_text import LARGE, JsonText
from runyard_workers.agent_code import values
from tests.installation import Installation

pytestmark = pytest.mark.anyio


class Undo(Exception):
    """Takes a transaction back."""


def burn(seconds: float) -> float:
    """Use a thread's processor for so long; when it was done."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass
    return time.monotonic()


async def test_a_party_that_sends_again_and_again_rests_between_its_turns() -> None:
    work = CostlyWork()
    began = time.monotonic()
    for _ in range(3):
        await work.do("a", burn, 0.05)
    assert time.monotonic() - began >= 0.05 * 3 + 2 * 0.1
    work.close()


async def test_another_party_does_not_wait_for_the_rest_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costly_work, "REST", 1e6)
    monkeypatch.setattr(costly_work, "LONGEST", 600.0)
    work = CostlyWork()
    await work.do("a", burn, 0.01)
    again = asyncio.create_task(work.do("a", burn, 0.01))
    await work.do("b", burn, 0.01)
    assert not again.done()
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    work.close()


async def test_a_refusal_comes_back_and_is_paid_for_too() -> None:
    work = CostlyWork()

    def refuse() -> None:
        burn(0.05)
        raise ValueError("no")

    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            await work.do("a", refuse)
    assert time.monotonic() - began >= 0.05 * 2 + 0.1
    assert not work._turns  # without a waiter nothing is kept
    work.close()


async def test_one_party_works_on_one_thread_at_a_time() -> None:
    work, at_once, most = CostlyWork(), 0, 0
    lock = threading.Lock()

    def piece() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1

    await asyncio.gather(*(work.do("a", piece) for _ in range(5)))
    assert most == 1
    work.close()


async def test_a_large_input_is_left_out_of_the_claim_and_there_for_the_agent(database_url: str) -> None:
    async with Installation(database_url) as site:

        async def length(ctx: Any, args: Any) -> dict[str, Any]:
            return {"letters": len(args["text"]), "thread": threading.current_thread().name}

        name = site.publish(length)
        large, small = "x" * (LARGE + 1), "y"
        first = await site.submit(name, {"text": large})
        second = await site.submit(name, {"text": small})

        def look(tx: Tx) -> None:
            workers.enlist(tx, "w", "host", 1, 2, 30.0)
            batch = claims.claim(tx, [claims.Claim("w", 2)])[0]
            assert isinstance(batch, claims.Batch)
            got = {one.task.id: one.task for one in batch.claimed}
            assert got[first].stored_input == JsonText("")
            assert (got[second].input or {})["args"] == {"text": small}
            assert (tasks.with_input(tx.conn, got[first]).input or {})["args"] == {"text": large}
            raise Undo

        with pytest.raises(Undo):
            site.transact(look)
        await site.engine()
        done = [await site.until(id_, Status.COMPLETED) for id_ in (first, second)]
        assert [task.output["letters"] for task in done] == [len(large), 1]


async def test_a_large_output_is_looked_through_beside_the_loop(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    measure = values.output

    def noted(*args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return measure(*args)

    monkeypatch.setattr(values, "output", noted)
    async with Installation(database_url) as site:

        async def large(ctx: Any, args: Any) -> Any:
            return [[n] for n in range(args["n"])]

        name = site.publish(large)
        await site.engine()
        for n in (1, 50_000):
            assert len((await site.ended(await site.submit(name, {"n": n}))).output) == n
    assert not threads[0].startswith("costly")
    assert threads[1].startswith("costly")


@pytest.mark.parametrize(
    ("value", "large"),
    [
        ("x" * 1_000, False),
        ("x" * 100_000, True),
        (list(range(100)), False),
        (list(range(10_000)), True),
        ({"a": {"b": [1, 2, {"c": "d"}]}}, False),
        ({str(n): n for n in range(10_000)}, True),
        ([[0] * 100] * 100, True),
        (None, False),
    ],
)
def test_a_value_is_large_by_its_members_and_letters(value: Any, large: bool) -> None:
    assert values.is_large(value) is large


def test_a_value_that_contains_itself_is_found_out_in_no_time() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert values.is_large(loop) is True
