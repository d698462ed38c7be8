"""Runs that wait, on both databases: questions, reviews, and children."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runyard import AgentError, ChildFailed, Context, Rejected
from runyard_common.human_tasks.service import answers
from runyard_common.human_tasks.service.answers import Decision
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.values.errors import Conflict, InvalidRequest
from runyard_scheduler.duties import Expire
from tests.installation import Installation
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_question_frees_the_slot_and_its_answer_resumes_the_run(database_url: str) -> None:
    async def ask(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
        before = await ctx.step("before", lambda: "once")
        centre = await ctx.ask("Which cost centre?", schema={"type": "string"})
        return {"before": before, "centre": centre}

    async with Installation(database_url, capacity=1) as site:
        name = site.publish(ask)
        engine = await site.engine()
        task_id = await site.submit(name)
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        await until(lambda: engine.running == 0)
        with pytest.raises(InvalidRequest, match="message"):
            site.transact(lambda tx: answers.post_message(tx, site.org, task_id, 7, "me"))
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "4711", "me"))
        task = await site.ended(task_id)
        assert task.output == {"before": "once", "centre": "4711"}
        assert task.attempt == 2
        assert site.events(task_id) == [
            "submit", "claim", "step", "ask", "answer", "admit", "claim", "finish",
        ]  # fmt: skip


async def test_of_two_simultaneous_answers_one_wins_and_the_other_gets_a_conflict(database_url: str) -> None:
    async def ask(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.ask("Which?")

    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(ask))
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        (question,) = site.questions(task_id)

        def answer(text: str) -> str:
            try:
                site.transact(lambda tx: answers.post_message(tx, site.org, task_id, text, None, question.id))
            except Conflict as refusal:
                return refusal.code
            return text

        got = await asyncio.gather(*[asyncio.to_thread(answer, text) for text in ("a", "b", "c")])
        task = await site.ended(task_id)
        assert sorted(got).count("already_answered") == 2
        assert task.output in got


async def test_several_typed_questions_are_answered_together_or_one_by_one(database_url: str) -> None:
    async def ask(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.ask(
            [
                {"key": "name", "text": "Name?"},
                {"key": "age", "text": "Age?", "schema": {"type": "integer"}},
            ]
        )

    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(ask))
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        name, age = site.questions(task_id)
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "Ada", "me", name.id))
        assert site.task(task_id).status is Status.WAITING_FOR_INPUT
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, {age.id: 36}, "me", None))
        assert (await site.ended(task_id)).output == {"name": "Ada", "age": 36}


async def test_a_review_can_be_approved_edited_or_rejected(database_url: str) -> None:
    async def post(ctx: Context, args: dict[str, Any]) -> Any:
        try:
            return await ctx.review("post to ledger", {"total": 10})
        except Rejected as no:
            return str(no)

    async with Installation(database_url) as site:
        await site.engine()
        name = site.publish(post)
        for decision, output in (
            (Decision("approve"), {"total": 10}),
            (Decision("edit", arguments={"total": 11}), {"total": 11}),
            (Decision("reject", reason="too much"), "too much"),
        ):
            task_id = await site.submit(name)
            await site.until(task_id, Status.AWAITING_REVIEW)
            site.transact(lambda tx: answers.review(tx, site.org, task_id, decision, "op"))  # noqa: B023
            assert (await site.ended(task_id)).output == output


#: What a question or a review is asked with, and how the run ends that gets no answer in time.
UNANSWERED: list[tuple[str, dict[str, Any], Any]] = [
    ("ask", {"default": "the usual"}, "the usual"),
    ("ask", {"default": None}, None),
    ("ask", {"on_timeout": "default", "default": "the usual"}, "the usual"),
    ("ask", {"on_timeout": "default"}, None),
    ("ask", {}, "answer_timeout"),
    ("ask", {"on_timeout": "fail"}, "answer_timeout"),
    ("review", {}, "answer_timeout"),
    ("review", {"on_timeout": "fail"}, "answer_timeout"),
    ("review", {"on_timeout": "reject"}, "rejected"),
]


async def test_an_unanswered_question_ends_as_it_declared(database_url: str) -> None:
    async def wait(ctx: Context, args: dict[str, Any]) -> Any:
        if args["call"] == "ask":
            return await ctx.ask("Which?", timeout=0.05, **args["waits"])
        try:
            return await ctx.review("pay", timeout=0.05, **args["waits"])
        except Rejected:
            return "rejected"

    async with Installation(database_url) as site:
        await site.engine()
        name = site.publish(wait)
        ids = [await site.submit(name, {"call": call, "waits": waits}) for call, waits, _ in UNANSWERED]
        for task_id in ids:
            await site.until(task_id, Status.WAITING_FOR_INPUT, Status.AWAITING_REVIEW)
        await asyncio.sleep(0.06)
        await asyncio.to_thread(Expire(site.store).run_once)
        for task_id, (call, waits, outcome) in zip(ids, UNANSWERED, strict=True):
            task = await site.ended(task_id)
            assert (task.error["code"] if task.error else task.output) == outcome, (call, waits)


async def test_a_parent_waits_for_its_child_without_a_slot(database_url: str) -> None:
    async def child(ctx: Context, args: dict[str, Any]) -> int:
        return int(args["n"]) * 2

    async with Installation(database_url, capacity=1) as site:
        child_name = site.publish(child)

        async def parent(ctx: Context, args: dict[str, Any]) -> Any:
            return await ctx.run(child_name, {"n": 21})

        await site.engine()
        task = await site.ended(await site.submit(site.publish(parent)))
        assert task.output == 42
        assert "wait" in site.events(task.id)


async def test_a_failed_child_is_reported_to_its_parent(database_url: str) -> None:
    async def child(ctx: Context, args: dict[str, Any]) -> None:
        raise AgentError("broken", code="child_code")

    async with Installation(database_url) as site:
        child_name = site.publish(child)

        async def parent(ctx: Context, args: dict[str, Any]) -> Any:
            try:
                await ctx.run(child_name)
            except ChildFailed as failed:
                return failed.details["error"]["code"]

        await site.engine()
        assert (await site.ended(await site.submit(site.publish(parent)))).output == "child_code"


async def test_two_children_of_one_parent_run_side_by_side(database_url: str) -> None:
    together = asyncio.Barrier(3)

    async def child(ctx: Context, args: dict[str, Any]) -> int:
        await asyncio.wait_for(together.wait(), 20)  # only three that run at the same time get past it
        return int(args["n"])

    async with Installation(database_url) as site:
        child_name = site.publish(child)

        async def parent(ctx: Context, args: dict[str, Any]) -> Any:
            return await asyncio.gather(*[ctx.run(child_name, {"n": n}) for n in range(3)])

        await site.engine()
        task = await site.ended(await site.submit(site.publish(parent)))
        assert (task.status, task.output) == (Status.COMPLETED, [0, 1, 2]), task.error
