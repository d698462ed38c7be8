"""Questions and children of agents that gather, catch or ignore their suspension."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runyard import BlockingContext, Context, agent
from runyard.testing import approve, run


def test_questions_in_a_task_group_are_asked_together() -> None:
    @agent("@out/group_of_questions")
    async def group_of_questions(ctx: Context, args: Any) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ctx.ask(text)) for text in ("Which?", "When?")]
        return [one.result() for one in asked]

    outcome = run(group_of_questions, answers={"Which?": "this", "When?": "now"})
    assert (outcome.status, outcome.output) == ("completed", ["this", "now"])


def test_code_that_catches_the_suspension_of_its_run_is_suspended_all_the_same() -> None:
    done: list[str] = []

    @agent("@out/catches")
    async def catches(ctx: Context, args: Any) -> Any:
        try:
            return await ctx.ask("Go on?")
        except BaseException:  # noqa: BLE001 - that is the point
            await ctx.step("clean up", done.append, "async")
            return "no answer"

    @agent("@out/catches_in_thread")
    def catches_in_thread(ctx: BlockingContext, args: Any) -> Any:
        try:
            return ctx.ask("Go on?")
        except:  # noqa: E722 - that is the point
            raise ValueError("no answer") from None

    for catching in (catches, catches_in_thread):
        outcome = run(catching, answers={"Go on?": "yes"})
        assert (outcome.status, outcome.output, outcome.error) == ("completed", "yes", None)
    assert done == []


@pytest.mark.parametrize("how", ["gathered", "beside", "waited for"])
def test_questions_whose_suspension_is_ignored_are_asked_all_the_same(how: str) -> None:
    done: list[str] = []

    @agent("@out/gathers")
    async def gathers(ctx: Context, args: Any) -> Any:
        answers: Any
        if how == "gathered":
            answers = await asyncio.gather(ctx.ask("Pay?"), ctx.ask("Sure?"), return_exceptions=True)
        else:
            tasks = [asyncio.ensure_future(ctx.ask(text)) for text in ("Pay?", "Sure?")]
            await asyncio.wait(tasks, timeout=None if how == "beside" else 5)
            answers = [task.exception() or task.result() for task in tasks]
        await ctx.step("pay", done.append, repr(answers), effect="irreversible")
        return answers

    outcome = run(gathers, answers={"Pay?": "yes", "Sure?": "very"})
    assert (outcome.status, outcome.output) == ("completed", ["yes", "very"]), outcome
    assert done == ["['yes', 'very']"], "nothing is done before it is answered"
    assert outcome.asked == ("Pay?", "Sure?")
    assert len(outcome.of_type("ask")[0]["asked"]) == 2, "they are asked together"


def test_calls_made_with_a_question_get_as_far_as_they_can_before_the_run_waits() -> None:
    done: list[str] = []

    async def waits_for_something_outside() -> None:
        await asyncio.sleep(30)

    @agent("@out/siblings")
    async def siblings(ctx: Context, args: Any) -> Any:
        async def after_a_step() -> Any:
            await asyncio.gather(asyncio.sleep(0), ctx.step("first", lambda: "done"), ctx.emit("noted"))
            return await ctx.ask("Later?")

        async def pays() -> None:
            await asyncio.sleep(0.1)
            done.append("paid")

        outside = asyncio.ensure_future(waits_for_something_outside())
        calls = (
            ctx.ask("Now?"), after_a_step(), ctx.review("pay"), ctx.step("pay", pays, effect="irreversible"),
            ctx.step("plain", lambda: done.append("plain")),
        )  # fmt: skip
        answers = await asyncio.gather(*calls)
        outside.cancel()
        return answers[:2]

    outcome = run(siblings, answers={"Now?": "a", "Later?": "b", "Approve: pay": approve()})
    assert (outcome.status, outcome.output) == ("completed", ["a", "b"]), outcome
    (asked,) = outcome.of_type("ask")
    assert len(asked["asked"]) == 2, "they are asked together, once the review is decided"
    assert sorted(done) == ["paid", "plain"], "nothing is done twice"


def test_a_question_inside_an_irreversible_step_does_not_wait_for_that_step() -> None:
    @agent("@out/inside")
    async def inside(ctx: Context, args: Any) -> Any:
        async def pays() -> Any:
            return await asyncio.wait_for(ctx.ask("Pay?"), 5)

        return await ctx.step("pay", pays, effect="irreversible")

    assert run(inside, answers={"Pay?": "yes"}).output == "yes"


def test_children_whose_suspension_is_ignored_are_waited_for_all_the_same() -> None:
    @agent("@out/child")
    async def child(ctx: Context, args: Any) -> int:
        return int(args["n"]) * 2

    @agent("@out/parent")
    async def parent(ctx: Context, args: Any) -> Any:
        runs = [ctx.run("@out/child", {"n": n}) for n in range(3)]
        return await asyncio.gather(*runs, return_exceptions=True)

    assert run(parent).output == [0, 2, 4]
