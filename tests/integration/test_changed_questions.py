"""Questions that an agent's code asks otherwise than its run's journal has them: no answer is lost or goes astray."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from runyard import BlockingContext, Context, agent, authoring
from runyard.testing import Outcome, replay, run

AGENT = "@changed/asks"
_patch = itertools.count()


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})


def declared(code: Callable[..., Any], **options: Any) -> Any:
    return agent(AGENT, version=f"1.0.{next(_patch)}", **options)(code)


async def asks(ctx: Context, args: dict[str, Any]) -> Any:
    await ctx.gather(ctx.step("left", lambda: 1), ctx.step("right", lambda: 2))
    colour = await ctx.ask("Which?")
    await ctx.step("last", lambda: 4)
    return colour


def recorded() -> Any:
    return run(declared(asks), answers=["blue"]).journal


def changing(*codes: Callable[..., Any], **options: Any) -> Any:
    """An agent whose code is another one in each attempt, the last in all that follow."""
    left = list(codes)

    async def code(ctx: Context, args: dict[str, Any]) -> Any:
        return await (left.pop(0) if len(left) > 1 else left[0])(ctx, args)

    def plain(ctx: BlockingContext, args: dict[str, Any]) -> Any:
        return (left.pop(0) if len(left) > 1 else left[0])(ctx, args)

    return declared(code if asyncio.iscoroutinefunction(codes[0]) else plain, **options)


def assert_mismatch(outcome: Outcome, *named: str) -> None:
    error = outcome.error or {}
    assert (outcome.status, error.get("code")) == ("failed", "journal_mismatch"), outcome
    assert all(name in error["message"] for name in named), error["message"]


def test_a_replay_names_a_question_in_whose_place_a_review_is_asked() -> None:
    async def reviews(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.gather(ctx.step("left", lambda: 1), ctx.step("right", lambda: 2))
        await ctx.review("x", {})
        await ctx.step("last", lambda: 4)

    found = replay(declared(reviews), recorded())
    assert found.misfit is not None, found
    assert (str(found.misfit.journal), str(found.misfit.code)) == (
        "question 'Which?' (ask#1)", "review 'x' (review:x#1)",
    )  # fmt: skip


def test_a_replay_names_a_question_that_was_put_before_an_answered_one() -> None:
    async def asks_more(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.gather(ctx.step("left", lambda: 1), ctx.step("right", lambda: 2))
        await ctx.ask("Delete everything?")
        await ctx.ask("Which?")
        await ctx.step("last", lambda: 4)

    found = replay(declared(asks_more), recorded())
    assert not found.fits
    assert "text was 'Which?', is 'Delete everything?'" in str(found)


def test_a_changed_text_and_a_question_left_out_are_differences_of_a_replay() -> None:
    async def asks_otherwise(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.gather(ctx.step("left", lambda: 1), ctx.step("right", lambda: 2))
        colour = await ctx.ask("Which one?")
        await ctx.step("last", lambda: 4)
        return colour

    async def asks_nothing(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.gather(ctx.step("left", lambda: 1), ctx.step("right", lambda: 2))
        await ctx.step("last", lambda: 4)
        return "blue"

    journal = recorded()
    found = replay(declared(asks_otherwise), journal).check()
    assert "fits, with differences (1); completed" in str(found)
    assert [one.what for one in found.differences] == ["text"]
    found = replay(declared(asks_nothing), journal).check()
    assert [(one.what, one.journal) for one in found.differences] == [("answer", "blue")]


@pytest.mark.parametrize("isolation", ["loop", "thread"])
def test_a_run_whose_code_reviews_where_it_asked_fails_and_names_both(isolation: Any) -> None:
    async def before(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.ask("Which?")

    async def now(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.review("delete", {})

    outcome = run(changing(before, now, isolation=isolation), answers=["blue"])
    assert_mismatch(outcome, "delete", "Which?", "ask#1")


def test_the_same_of_a_plain_function() -> None:
    def before(ctx: BlockingContext, args: dict[str, Any]) -> Any:
        return ctx.ask("Which?")

    def now(ctx: BlockingContext, args: dict[str, Any]) -> Any:
        return ctx.ask("Delete?", key="delete")

    assert_mismatch(run(changing(before, now), answers=["blue"]), "Delete?", "Which?")


def test_a_new_question_before_a_finished_step_fails_the_run() -> None:
    async def before(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("first", lambda: 1)
        return await ctx.ask("Which?")

    async def now(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.ask("Which?")
        await ctx.ask("Sure?")
        return await ctx.step("first", lambda: 1)

    assert_mismatch(run(changing(before, now), answers=["blue"]), "ask#2", "first#1")


def test_texts_with_a_counter_and_questions_with_keys_of_their_own_may_change() -> None:
    counter = iter(range(100))

    async def counts(ctx: Context, args: dict[str, Any]) -> Any:
        return [await ctx.ask(f"Question {next(counter)}?") for _ in range(2)]

    assert run(declared(counts), answers=["a", "b"]).output == ["a", "b"]

    async def before(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.ask("Which?", key="colour")

    async def now(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.ask("How many?", key="number")

    assert run(changing(before, now), answers=["blue", "3"]).output == "3"


def test_questions_at_once_are_asked_in_any_order() -> None:
    turns = iter(range(100))

    async def one_by_one(ctx: Context, args: dict[str, Any]) -> Any:
        late = asyncio.Event()

        async def first() -> Any:
            if next(turns) > 0:  # in the first attempt this one is at once with its question
                await late.wait()
            return await ctx.ask("First?", key=None)

        async def second() -> Any:
            answers = [await ctx.ask(f"Second {n}?", key=f"second {n}") for n in range(2)]
            late.set()
            return answers

        return await asyncio.gather(first(), second())

    outcome = run(declared(one_by_one), answers=["a", "b", "c"])
    assert outcome.status == "completed", outcome.error


def test_what_a_step_asks_does_not_answer_the_next_question() -> None:
    async def code(ctx: Context, args: dict[str, Any]) -> Any:
        async def inner() -> Any:
            return await ctx.ask("Inside?")

        return [await ctx.step("asks", inner), await ctx.ask("Behind?"), await ctx.ask("Named?", key="named")]

    assert run(declared(code), answers=["1", "2", "3"]).output == ["1", "2", "3"]
