"""Values in every call between an agent and the engine: one JSON form, one refusal that names the call, bounds."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from runyard import AgentError, BlockingContext, Context, RetryLater, agent
from runyard.testing import Outcome, approve, run
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks.service import answers
from runyard_common.runs.rules.lifecycle import Status
from runyard_workers.agent_code.values import Bounds
from tests.installation import Installation


class Payment(BaseModel):
    amount: Decimal


async def _echo(ctx: Context, args: Any) -> Any:
    return args


agent("@values/echo")(_echo)

VALUE: dict[Any, Any] = {
    "model": Payment(amount=Decimal("12.30")),
    "set": {3, 1, 2},
    "bytes": b"\xff",
    "path": Path("a/b"),
    "half": "\ud83d",
    "nul": "a\0b",
    "large": 2**70,
    "when": dt.date(2026, 1, 2),
    1: "number key",
}
FORM: dict[str, Any] = {
    "model": {"amount": "12.30"},
    "set": [1, 2, 3],
    "bytes": "/w==",
    "path": "a/b",
    "half": "�",
    "nul": "a\0b",
    "large": str(2**70),
    "when": "2026-01-02",
    "1": "number key",
}


async def _calls(ctx: Context, args: Any) -> Any:
    await ctx.emit("order \ud83d\0", VALUE)
    await ctx.log(VALUE)  # type: ignore[arg-type]
    await ctx.log("half \ud83d\0")
    await ctx.progress(Decimal("0.5"), "half \ud83d")  # type: ignore[arg-type]
    await ctx.token("half \ud83d")
    step = await ctx.step("st\0ep \ud83d", lambda: VALUE)
    plain = await ctx.step("st\0ep \ud83d", lambda: [VALUE])
    asked = await ctx.ask("half \ud83d\0?", timeout=60, on_timeout="default", default=VALUE)
    reviewed = await ctx.review("pay \0\ud83d", VALUE)
    child = await ctx.run("@values/echo", VALUE, message="half \ud83d\0")
    assert step == plain[0] == reviewed == child == FORM
    return {"asked": asked, "value": VALUE}


def _blocking_calls(ctx: BlockingContext, args: Any) -> Any:
    ctx.emit("order", VALUE)
    ctx.log("half \ud83d")
    assert ctx.step("step", lambda: VALUE) == FORM
    return ctx.review("pay", VALUE)


agent("@values/all")(_calls)
agent("@values/blocking")(_blocking_calls)


def test_values_have_the_same_form_at_every_call() -> None:
    outcome = run(_calls, answers=["yes", approve()], timeout=50)
    assert outcome.error is None
    assert outcome.output == {"asked": "yes", "value": FORM}
    assert outcome.of_type("custom") == [{"name": "order �\0", "data": FORM, "status": "running"}]
    assert outcome.tokens[0] == "half �"
    assert outcome.asked == ("half �\0?", "Approve: pay ��")


def test_a_plain_agent_has_the_same_calls() -> None:
    assert run(_blocking_calls, answers=[approve()]).output == FORM


@pytest.mark.anyio
async def test_every_database_stores_what_passes_the_calls(database_url: str) -> None:
    async with Installation(database_url) as site:
        site.publish(_echo, "@values/echo")
        name = site.publish(_storing)
        await site.engine()
        task = await site.ended(await site.submit(name, {}), 30)
        assert (task.status, task.output, task.attempt) == (Status.COMPLETED, FORM, 2), task.error
        failed = await site.ended(await site.submit(site.publish(_failing_oddly), {}), 30)
        assert failed.error is not None
        assert failed.error["message"] == "no � �"
        assert failed.error["details"] == {
            "reason": "(left out: object has no JSON form)",
            "half": "�",
            "n": "1.5",
        }
        assert (failed.attempt, failed.error["code"]) == (1, "odd �")


async def _storing(ctx: Context, args: Any) -> Any:
    await ctx.emit("order \ud83d\0", VALUE)
    await ctx.log("half \ud83d\0")
    step = await ctx.step("st\0ep \ud83d", lambda: VALUE)
    return step if step == await ctx.run("@values/echo", VALUE, message="half \ud83d\0") else None


async def _failing_oddly(ctx: Context, args: Any) -> None:
    raise AgentError("no \ud83d \0", code="odd \0", reason=object(), half="\ud83d", n=Decimal("1.5"))


NONE = {"lines": [{"amount": object()}]}
V, C, Q, S, R = "value_not_json", "invalid_call", "invalid_question", "invalid_schema", "invalid_review"
ASK = "Which?"
CALLS: list[tuple[str, Any, str, str]] = [
    ("return", lambda ctx: _value(NONE), "result_not_json", "The output of '@values/refused', at $.lines[0].amount:"),
    ("step", lambda ctx: ctx.step("total", lambda: NONE), "result_not_json", "step 'total', at $.lines[0].amount"),
    ("emit", lambda ctx: ctx.emit("order", NONE), V, "ctx.emit 'order', at $.lines[0].amount: object has"),
    ("log", lambda ctx: ctx.log(NONE), V, "ctx.log, at $.lines[0].amount"),
    ("progress", lambda ctx: ctx.progress(0.5, NONE), V, "ctx.progress, at $.lines[0].amount"),
    ("review", lambda ctx: ctx.review("pay", NONE), V, "ctx.review 'pay', at $.lines[0].amount"),
    ("review nan", lambda ctx: ctx.review("pay", math.nan), V, "ctx.review 'pay', at $: nan is no JSON"),
    ("run", lambda ctx: ctx.run("@values/echo", NONE), V, "ctx.run '@values/echo', at $.lines[0].amount"),
    ("options", lambda ctx: ctx.run("@values/echo", x=object()), V, "ctx.run '@values/echo', options, at $.x"),
    ("default", lambda ctx: ctx.ask(ASK, default=object()), V, "ctx.ask 'Which?', default, at $"),
    ("keys", lambda ctx: ctx.emit("order", {1: 1, "1": 2}), V, 'its keys 1 and "1" are the same in JSON'),
    ("token", lambda ctx: ctx.token(5), C, "ctx.token: the token must be text, not int."),
    ("step name", lambda ctx: ctx.step(5, len), C, "ctx.step: the name must be text, not int."),
    ("step value", lambda ctx: ctx.step("total", 5), C, "ctx.step 'total': pass a function and its"),
    ("coroutine", lambda ctx: ctx.step("total", _value(1)), C, "not the coroutine that calling it returned"),
    ("effect", lambda ctx: ctx.step("total", len, [], effect="none"), C, "effect must be one of read"),
    ("level", lambda ctx: ctx.log("x", "loud"), C, "ctx.log: level must be one of debug"),
    ("fraction", lambda ctx: ctx.progress(math.nan), C, "ctx.progress: the fraction must be a number"),
    ("timeout", lambda ctx: ctx.ask(ASK, timeout=math.nan), C, "timeout must be a positive number"),
    ("on_timeout", lambda ctx: ctx.ask(ASK, on_timeout="x"), C, "on_timeout must be one of fail, default"),
    ("ask reject", lambda ctx: ctx.ask(ASK, on_timeout="reject"), C, "on_timeout must be one of fail, default"),
    ("unused", lambda ctx: ctx.ask(ASK, on_timeout="fail", default=1), C, "'Which?': on_timeout=\"fail\" does not use"),
    ("review default", lambda ctx: ctx.review("pay", on_timeout="default"), C, "must be one of fail, reject"),
    ("schema", lambda ctx: ctx.ask("How many?", schema={"type": "objekt"}), S, "ctx.ask 'How many?': "),
    ("pattern", lambda ctx: ctx.ask(ASK, schema={"pattern": "(["}), S, "not a usable JSON Schema"),
    ("review schema", lambda ctx: ctx.review("pay", {}, schema={"type": 1}), S, "ctx.review 'pay': "),
    ("misfit", lambda ctx: ctx.ask(ASK, schema={"type": "integer"}, options=["a"]), Q, "the option 'a'"),
    ("default misfit", lambda ctx: ctx.ask(ASK, options=["a"], default="b"), Q, "the default 'b' does"),
    ("options text", lambda ctx: ctx.ask(ASK, options="abc"), Q, "options must be a list, not str"),
    ("several", lambda ctx: ctx.ask([{"text": "a"}]), Q, "each of several questions is {key, text"),
    ("no options", lambda ctx: ctx.ask(ASK, options=[]), Q, "options is empty"),
    ("no text", lambda ctx: ctx.ask(" "), Q, "the question is empty"),
    ("no questions", lambda ctx: ctx.ask([]), Q, "give a question, or a list of some"),
    ("no question", lambda ctx: ctx.ask(None), Q, "give a question, or a list of some"),
    ("nothing fits", lambda ctx: ctx.ask(ASK, schema=False), S, "no answer fits its schema"),
    ("nothing is", lambda ctx: ctx.ask(ASK, schema={"not": {}}), S, "no answer fits its schema"),
    ("for ever", lambda ctx: ctx.ask(ASK, timeout=1e300), C, "ten years at most"),
    ("endless", lambda ctx: _value(range(10**9)), "result_not_json", "too many members"),
    ("run option", lambda ctx: ctx.run("@values/echo", dedline=5), C, "there is no option 'dedline'. Options are"),
    ("run deadline", lambda ctx: ctx.run("@values/echo", deadline=-1.0), C, "ctx.run '@values/echo', deadline: "),
    ("run priority", lambda ctx: ctx.run("@values/echo", priority="high"), C, "ctx.run '@values/echo', priority: "),
    ("review misfit", lambda ctx: ctx.review("pay", 5, schema={"type": "object"}), R, "'pay': the arguments '5' do"),
    ("twice", lambda ctx: ctx.ask([{"key": "a", "text": "a"}] * 2), Q, "a key of its own"),
]  # fmt: skip


async def _value(value: Any) -> Any:
    return value


async def _refused(ctx: Context, args: Any) -> Any:
    return await next(call for name, call, *_ in CALLS if name == args["call"])(ctx)


agent("@values/refused")(_refused)


@pytest.mark.parametrize(
    ("call", "code", "text"), [(n, c, t) for n, _, c, t in CALLS], ids=[d[0] for d in CALLS]
)
def test_what_has_no_form_or_no_sense_is_refused_at_its_call(call: str, code: str, text: str) -> None:
    outcome = run(_refused, {"call": call})
    assert outcome.error is not None, outcome
    assert (outcome.error["code"], outcome.error["cause"]) == (code, "agent"), outcome.error
    assert text in outcome.error["message"]
    assert "SQL" not in str(outcome.error)
    assert outcome.attempts == 1


BOUNDS = Bounds(output=2000, step=1000, event=500, events=5, questions=3, open_questions=2)
LARGE: list[tuple[str, Any, str, str]] = [
    ("output", lambda ctx: _value("x" * 3000), "output_too_large", "3,002 bytes as JSON; RUNYARD_MAX_OUTPUT"),
    ("step", lambda ctx: ctx.step("big", lambda: "x" * 1500), "step_result_too_large", "step 'big' is 1,502"),
    ("emit", lambda ctx: ctx.emit("big", "x" * 600), "event_too_large", "ctx.emit 'big' is 602 bytes as JSON"),
    ("log", lambda ctx: ctx.log("x" * 600), "event_too_large", "ctx.log is 602 bytes"),
    ("token", lambda ctx: ctx.token("x" * 600), "event_too_large", "ctx.token is 602 bytes"),
    ("ask", lambda ctx: ctx.ask("x" * 600), "event_too_large", "ctx.ask 'xxx"),
    ("review", lambda ctx: ctx.review("pay", "x" * 600), "event_too_large", "ctx.review 'pay' is 602 bytes"),
    ("run", lambda ctx: ctx.run("@values/echo", "x" * 1200), "arguments_too_large", "ctx.run '@values/echo' is 1,202"),
    ("questions", lambda ctx: _ask_together(ctx, 3), "too_many_open_questions", "3 questions and reviews open at once"),
    ("beside", lambda ctx: _ask_side_by_side(ctx, 3), "too_many_open_questions", "RUNYARD_MAX_OPEN_QUESTIONS allows 2"),
    ("events", lambda ctx: _report(ctx, 6), "too_many_events", "this run has reported 5 events; RUNYARD_MAX"),
]  # fmt: skip


async def _ask_together(ctx: Context, times: int) -> None:
    await ctx.ask([{"key": f"k{number}", "text": "Which?"} for number in range(times)])


async def _ask_side_by_side(ctx: Context, times: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(times):
            group.create_task(ctx.review(f"pay {number}"))


async def _report(ctx: Context, times: int) -> None:
    for number in range(times):
        await ctx.emit("n", number)


async def _large(ctx: Context, args: Any) -> Any:
    return await next(call for name, call, *_ in LARGE if name == args["call"])(ctx)


@pytest.mark.anyio
async def test_what_is_too_large_fails_its_run_at_once_naming_the_call_and_the_sizes(
    database_url: str,
) -> None:
    async with Installation(database_url, bounds=BOUNDS) as site:
        name = site.publish(_large, retries=3)
        await site.engine()
        for call, _, code, text in LARGE:
            task = await site.ended(await site.submit(name, {"call": call}), 30)
            assert task.error is not None, call
            assert (task.error["code"], task.error["cause"]) == (code, "agent"), task.error
            assert text in task.error["message"]
            assert task.attempt == 1


@pytest.mark.anyio
async def test_events_of_a_replay_do_not_count_twice(database_url: str) -> None:
    async def reporting(ctx: Context, args: Any) -> str:
        await _report(ctx, 5)
        await ctx.ask("Go on?", timeout=0.05, on_timeout="default", default="yes")
        return "done"

    async with Installation(database_url, bounds=BOUNDS) as site:
        name = site.publish(reporting)
        await site.engine()
        task_id = await site.submit(name)
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "yes", None))
        task = await site.ended(task_id)
        assert (task.status, task.output) == (Status.COMPLETED, "done")
        assert site.events(task_id).count("custom") == 5


def _answer_yes(org_id: str, task_id: str, tx: Tx) -> None:
    answers.post_message(tx, org_id, task_id, "yes", None)


@pytest.mark.anyio
async def test_a_run_that_asks_in_a_loop_ends(database_url: str) -> None:
    async def asking(ctx: Context, args: Any) -> str:
        for _ in range(args["times"]):
            await ctx.ask("Go on?")
        return "done"

    async with Installation(database_url, bounds=BOUNDS) as site:
        name = site.publish(asking)
        await site.engine()
        few, many = [await site.submit(name, {"times": times}) for times in (3, 4)]
        for _ in range(3):
            for task_id in (few, many):
                await site.until(task_id, Status.WAITING_FOR_INPUT)
                site.transact(partial(_answer_yes, site.org, task_id))
        assert (await site.ended(few)).output == "done"
        error = (await site.ended(many)).error
        assert error is not None
        assert (error["code"], error["cause"]) == ("too_many_questions", "agent")
        assert "has asked 3 questions and reviews; RUNYARD_MAX_QUESTIONS allows 3" in error["message"]


def test_long_names_that_begin_alike_are_steps_of_their_own() -> None:
    @agent("@values/long")
    async def long(ctx: Context, args: Any) -> Any:
        return [await ctx.step("n" * 300 + str(i), _value, i) for i in range(3)]

    assert run(long).output == [0, 1, 2]


@pytest.mark.parametrize("after", [math.nan, -1, "soon", None, True])
def test_an_odd_retry_after_is_none(after: Any) -> None:
    @agent("@values/later", retries=1)
    async def later(ctx: Context, args: Any) -> str:
        if ctx.task.attempt == 1:
            raise RetryLater("again", retry_after=after)
        return "done"

    outcome: Outcome = run(later)
    assert (outcome.output, outcome.attempts) == ("done", 2)


@pytest.mark.parametrize("retries", [None, 1])
def test_an_agent_asks_for_another_attempt_where_its_retries_leave_one(retries: int | None) -> None:
    @agent("@values/again", retries=retries)
    async def again(ctx: Context, args: Any) -> str:
        if ctx.task.attempt == 1:
            raise RetryLater("the others are not there yet")
        return "done"

    outcome: Outcome = run(again)
    if retries:
        assert (outcome.output, outcome.attempts) == ("done", 2)
    else:
        assert outcome.error is not None
        assert (outcome.status, outcome.error["code"], outcome.attempts) == ("failed", "retry_later", 1)


def test_an_agent_that_returns_a_coroutine_from_a_plain_function_is_awaited() -> None:
    @agent("@values/wrapped")
    def wrapped(ctx: BlockingContext, args: Any) -> Any:
        return asyncio.sleep(0, "done")

    assert run(wrapped).output == "done"
