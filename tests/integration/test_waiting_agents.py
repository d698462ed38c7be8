"""Agents that sleep, wait for events, gather and map: the same whichever journal write their process is lost after."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runyard import AgentError, BlockingContext, ChildFailed, Context, EventTimeout, agent
from runyard.testing import Outcome, event, run

#: A run is made for each of its journal writes.
pytestmark = pytest.mark.timeout(180)

DAY = 86_400.0
done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def do(what: str) -> str:
    done[what] += 1
    return what


def after_each_write(fn: Any, args: Any = None, at_once: bool = False, **more: Any) -> Outcome:
    """The outcome without a crash, which a crash after any journal write must not change. `at_once`: a crash may
    interrupt one step that is under way, which is then done again."""
    whole = run(fn, args, **more)
    writes = 0
    while True:
        writes += 1
        done.clear()
        crashed = run(fn, args, crash_after=[writes], **more)
        assert (crashed.status, crashed.output) == (whole.status, whole.output), writes
        again = sum(done.values()) - len(done)
        assert again <= at_once, f"after write {writes}: {done}"
        if crashed.attempts == whole.attempts and writes > 1:
            return whole
        assert writes < 100


@agent("@waits/child")
async def child(ctx: Context, args: dict[str, Any]) -> int:
    if args.get("sleep"):
        await ctx.sleep(args["sleep"])
    if args.get("fail"):
        raise AgentError("No.", code="refused")
    return int(args["n"]) * 10


# -- sleep -----------------------------------------------------------------------------------------------------


@agent("@waits/sleeps")
async def sleeps(ctx: Context, args: Any) -> list[str]:
    first = await ctx.step("first", do, "first")
    await ctx.sleep(3 * DAY)
    await ctx.sleep(until=datetime.now(UTC) + timedelta(days=1))  # long over: three days have passed
    return [first, await ctx.step("second", do, "second")]


@agent("@waits/sleeps_in_a_thread")
def sleeps_in_a_thread(ctx: BlockingContext, args: Any) -> list[str]:
    first = ctx.step("first", do, "first")
    ctx.sleep(3 * DAY)
    return [first, ctx.step("second", do, "second")]


@pytest.mark.parametrize("fn", [sleeps, sleeps_in_a_thread])
def test_a_sleep_is_left_and_come_back_from_once(fn: Any) -> None:
    whole = after_each_write(fn)
    assert (whole.status, whole.output, whole.attempts) == ("completed", ["first", "second"], 2)
    assert whole.of_type("wait")[0]["for"] == "sleep"


def test_a_short_sleep_stays_in_the_worker() -> None:
    @agent("@waits/naps")
    async def naps(ctx: Context, args: Any) -> str:
        await ctx.sleep(0.01)
        await ctx.sleep(0)
        return str(await ctx.step("up", do, "up"))

    assert after_each_write(naps).attempts == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "give seconds"),
        ({"seconds": -1}, "positive"),
        ({"until": "noon"}, "datetime"),
        ({"seconds": 1, "until": 1}, "give"),
    ],
)
def test_a_sleep_that_makes_no_sense_is_refused(given: Any, problem: str) -> None:
    @agent("@waits/odd")
    async def odd(ctx: Context, args: Any) -> None:
        await ctx.sleep(**given)

    error = run(odd).error
    assert error is not None
    assert error["code"] == "invalid_call"
    assert problem in error["message"]


# -- events ----------------------------------------------------------------------------------------------------


@agent("@waits/order")
async def order(ctx: Context, args: dict[str, Any]) -> list[Any]:
    paid = await ctx.wait_for_event("paid", key="4711", timeout=DAY, default="unpaid")
    await ctx.step("thank", do, "thank")
    return [paid, await ctx.wait_for_event("sent")]


@agent("@waits/order_in_a_thread")
def order_in_a_thread(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    paid = ctx.wait_for_event("paid", key="4711", timeout=DAY, default="unpaid")
    return [paid, ctx.wait_for_event("sent")]


@pytest.mark.parametrize("fn", [order, order_in_a_thread])
def test_events_reach_the_run_that_waits_for_them(fn: Any) -> None:
    sent = [event("sent", {"at": 9}), event("paid", 1, key="other"), event("paid", [120], key="4711")]
    whole = after_each_write(fn, events=sent)
    assert whole.output == [[120], {"at": 9}]
    assert [one["name"] for one in whole.of_type("event_received")] == ["paid", "sent"]


def test_a_wait_without_an_event_goes_on_with_its_default() -> None:
    assert after_each_write(order, events=[event("sent", 1)]).output == ["unpaid", 1]


def test_a_wait_that_times_out_without_a_default_raises() -> None:
    @agent("@waits/impatient")
    async def impatient(ctx: Context, args: dict[str, Any]) -> str:
        try:
            return str(await ctx.wait_for_event("paid", timeout=60))
        except EventTimeout as late:
            return late.code

    assert after_each_write(impatient).output == "event_timeout"


def test_an_event_that_does_not_come_fails_the_test_naming_it() -> None:
    with pytest.raises(AssertionError, match="No event 'sent'"):
        run(order, events=[event("paid", 1, key="4711")])


# -- several at once -------------------------------------------------------------------------------------------


@agent("@waits/gathers")
async def gathers(ctx: Context, args: dict[str, Any]) -> list[Any]:
    async def pipeline(n: int) -> list[Any]:
        ran = await ctx.run("@waits/child", {"n": n, "sleep": 60.0 * (3 - n)})
        return [ran, await ctx.step("after", do, f"after {n}")]

    both = await ctx.gather(pipeline(1), pipeline(2), ctx.step("alone", do, "alone"), ctx.sleep(DAY))
    return [*both, await ctx.step("last", do, "last")]


@agent("@waits/gathers_in_threads")
def gathers_in_threads(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    def pipeline(n: int) -> list[Any]:
        ran = ctx.run("@waits/child", {"n": n, "sleep": 60.0 * (3 - n)})
        return [ran, ctx.step("after", do, f"after {n}")]

    both = ctx.gather(
        lambda: pipeline(1),
        lambda: pipeline(2),
        lambda: ctx.step("alone", do, "alone"),
        lambda: ctx.sleep(DAY),
    )
    return [*both, ctx.step("last", do, "last")]


@pytest.mark.parametrize("fn", [gathers, gathers_in_threads])
def test_what_is_gathered_comes_in_order_and_once(fn: Any) -> None:
    whole = after_each_write(fn, at_once=True, agents=[child])
    assert whole.output == [[10, "after 1"], [20, "after 2"], "alone", None, "last"]
    assert whole.attempts == 2, "all of it is waited for together"


def test_a_failure_among_what_is_gathered_is_raised_without_waiting_for_the_rest() -> None:
    @agent("@waits/fails")
    async def fails(ctx: Context, args: dict[str, Any]) -> str:
        def fail() -> None:
            raise ValueError("broken")

        try:
            await ctx.gather(
                ctx.wait_for_event("never"), ctx.step("fail", fail), ctx.step("other", do, "other")
            )
        except ValueError as error:
            return str(await ctx.step("repair", do, str(error)))
        return "no failure"

    assert after_each_write(fails, at_once=True).output == "broken"


def test_a_failed_child_among_what_is_gathered_ends_the_wait() -> None:
    @agent("@waits/fails_later")
    async def fails_later(ctx: Context, args: dict[str, Any]) -> str:
        try:
            await ctx.gather(
                ctx.wait_for_event("never"), ctx.run("@waits/child", {"fail": True, "sleep": 60})
            )
        except ChildFailed as error:
            return str(error.details["error"]["code"])
        return "no failure"

    assert after_each_write(fails_later, agents=[child]).output == "refused"


def test_failures_may_be_among_the_results() -> None:
    @agent("@waits/collects")
    async def collects(ctx: Context, args: dict[str, Any]) -> list[Any]:
        calls = [ctx.run("@waits/child", {"n": 1}), ctx.run("@waits/child", {"fail": True})]
        ran = await ctx.gather(*calls, return_exceptions=True)
        mapped = await ctx.map("@waits/child", [{"fail": True}, {"n": 2}], return_exceptions=True)
        return [type(one).__name__ if isinstance(one, Exception) else one for one in (*ran, *mapped)]

    assert after_each_write(collects, agents=[child]).output == [10, "ChildFailed", "ChildFailed", 20]


def test_what_is_first_among_concurrent_waits_goes_on_first() -> None:
    @agent("@waits/races")
    async def races(ctx: Context, args: dict[str, Any]) -> str:
        slow, quick = asyncio.ensure_future(ctx.sleep(DAY)), asyncio.ensure_future(ctx.sleep(60))
        await asyncio.wait([slow, quick], return_when=asyncio.FIRST_COMPLETED)
        first = "quick" if quick.done() else "slow"
        slow.cancel()
        return str(await ctx.step("first", do, first))

    assert run(races).output == "quick"


# -- map -------------------------------------------------------------------------------------------------------


@agent("@waits/maps")
async def maps(ctx: Context, args: dict[str, Any]) -> list[int]:
    each = [{"n": n, "sleep": 60.0 if n % 2 else 0} for n in range(args["count"])]
    return list(await ctx.map("@waits/child", each, concurrency=2))


@agent("@waits/maps_in_a_thread")
def maps_in_a_thread(ctx: BlockingContext, args: dict[str, Any]) -> list[int]:
    return list(ctx.map("@waits/child", [{"n": n} for n in range(args["count"])], concurrency=2))


@pytest.mark.parametrize("fn", [maps, maps_in_a_thread])
def test_mapped_children_give_their_outputs_in_order(fn: Any) -> None:
    whole = after_each_write(fn, {"count": 4}, agents=[child])
    assert whole.output == [0, 10, 20, 30]
    assert whole.attempts == 2, "one wake-up for all"
    assert run(fn, {"count": 0}, agents=[child]).output == []


def test_the_first_mapped_child_that_fails_stops_the_others() -> None:
    @agent("@waits/maps_failure")
    async def maps_failure(ctx: Context, args: dict[str, Any]) -> str:
        each = [{"n": 1, "sleep": 9 * DAY}, {"fail": True}, {"n": 2, "sleep": 9 * DAY}]
        try:
            await ctx.map("@waits/child", each)
        except ChildFailed as error:
            await ctx.sleep(DAY)
            return str(error.details["error"]["code"])
        return "no failure"

    assert after_each_write(maps_failure, agents=[child]).output == "refused"


def test_a_started_child_is_not_waited_for() -> None:
    @agent("@waits/starts")
    async def starts(ctx: Context, args: dict[str, Any]) -> bool:
        return bool(await ctx.start("@waits/child", {"n": 1}))

    assert after_each_write(starts, agents=[child]).output is True
