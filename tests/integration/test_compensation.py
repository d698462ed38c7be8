"""What an agent registers with `ctx.on_failure`: run in reverse order before its run ends, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from runyard import AgentError, BlockingContext, ChildFailed, Context, agent, current_step
from runyard.errors import ProviderError
from runyard.testing import Outcome, run
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import events
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.suspicion import MOST_LOSSES, Loss, Suspicion
from runyard_common.runs.service import cancellations, rescues, retries
from runyard_common.tables.query import Task
from runyard_scheduler.duties import Admit, Rescue
from runyard_workers.attempts import executor
from runyard_workers.attempts.attempt import Attempt
from tests import process_agents
from tests.installation import Installation
from tests.waiting import until

#: A run is made for each of its journal writes.
pytestmark = pytest.mark.timeout(180)

done: list[str] = []
PROCESSES = process_agents.__name__  # imported: its agents are declared


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def do(what: str) -> str:
    done.append(what)
    return what


async def undo(what: str, *, by: str = "agent") -> str:
    await asyncio.sleep(0)
    return do(f"undo {what}")


UNDONE = ["flight", "hotel", "undo hotel", "undo flight"]


@agent("@undo/trip")
async def trip(ctx: Context, args: dict[str, Any]) -> None:
    for name in ("flight", "hotel"):
        await ctx.step(name, do, name)
        await ctx.on_failure(f"cancel {name}", undo, name, by="test")
    raise AgentError("No car.", code="no_car")


@agent("@undo/trip_in_a_thread")
def trip_in_a_thread(ctx: BlockingContext, args: dict[str, Any]) -> None:
    for name in ("flight", "hotel"):
        ctx.step(name, do, name)
        ctx.on_failure(f"cancel {name}", undo, name, by="test")
    raise AgentError("No car.", code="no_car")


@agent("@undo/trip_with_a_loop", isolation="thread")
async def trip_with_a_loop(ctx: Context, args: dict[str, Any]) -> None:
    await trip(ctx, args)


@agent("@undo/failing_step")
async def failing_step(ctx: Context, args: dict[str, Any]) -> None:
    def book() -> None:
        done.append("hotel")
        raise ValueError("full")

    await ctx.on_failure("cancel flight", undo, "flight")
    await ctx.step("flight", do, "flight")
    await ctx.on_failure("cancel hotel", undo, "hotel")
    try:
        await ctx.step("hotel", book)
    except ValueError:
        raise AgentError("No hotel.", code="no_car") from None


@agent("@undo/gathered")
async def gathered(ctx: Context, args: dict[str, Any]) -> None:
    async def part(name: str) -> None:
        await ctx.step(name, do, name)
        await ctx.on_failure(f"cancel {name}", undo, name)
        if name == "hotel":
            raise AgentError("No hotel.", code="no_car")

    await part("flight")
    await ctx.gather(part("hotel"), ctx.step("none", lambda: None))


@pytest.mark.parametrize("fn", [trip, trip_in_a_thread, trip_with_a_loop, failing_step, gathered])
def test_a_failed_run_is_undone_in_reverse_order_whichever_write_its_process_is_lost_after(fn: Any) -> None:
    for writes in range(1, 20):
        done.clear()
        result = run(fn, crash_after=[] if writes == 1 else [writes - 1])
        assert (result.status, result.error and result.error["code"]) == ("failed", "no_car"), writes
        # A crash after the write of one of two at once may meet the other under way: that is done again.
        again = [["flight", "hotel", *UNDONE[1:]]] if fn is gathered and writes > 1 else []
        assert done in [UNDONE, *again], writes
        assert _log(result)[-4:] == ["compensate", "cancel hotel", "cancel flight", "fail"]
        if writes > 1 and result.attempts == 2:
            return
    raise AssertionError("each crash costs an attempt")


@pytest.mark.parametrize("name", ["undoes", "undoes_plainly"])
def test_a_run_in_a_process_of_its_own_is_undone_there(name: str, tmp_path: Path) -> None:
    file = tmp_path / "done"
    result = run(f"@process/{name}", {"file": str(file)}, processes=True)
    assert result.error is not None
    assert (result.error["code"], file.read_text().split()) == ("cause", ["b", "a"])


@pytest.mark.parametrize(
    ("by", "code", "message", "details"),
    [
        ("cannot", "agent_error", "ValueError: cannot (caused by KeyError: 'why') (in compensation 'undo')", None),
        ("cannot_by_code", "cannot_undo", "cannot", {"why": [1]}),
        ("cannot_connect", "agent_error", "ConnectionError: refused (in compensation 'undo')", None),
    ],
)  # fmt: skip
def test_what_a_compensation_raises_reads_the_same_from_a_thread_and_a_process(
    by: str, code: str, message: str, details: Any
) -> None:
    plain = agent("@undo/cannot_be_undone")(process_agents.cannot_be_undone)
    for outcome in (run(plain, {"by": by}), run("@process/cannot_be_undone", {"by": by}, processes=True)):
        error = outcome.of_type("compensated")[-1]["error"]
        found = error.get("details", {})
        assert ("process_agents.py" in found.pop("traceback", ""), error["cause"]) == (
            details is None,
            "agent",
        )
        assert (error["code"], error["message"], found or None) == (code, message, details)


def _log(result: Outcome) -> list[str]:
    """The events of a run's end, compensations by their names."""
    shown = {"compensate", "compensated", "fail", "stop", "expire"}
    return [str(e.data.get("name") or e.type) for e in result.events if e.type in shown]


def test_a_run_that_completes_undoes_nothing() -> None:
    @agent("@undo/completes")
    async def completes(ctx: Context, args: Any) -> str:
        await ctx.on_failure("never", undo, "nothing")
        return "done"

    result = run(completes, crash_after=[1])
    assert (result.output, done) == ("done", [])


def test_a_run_that_is_tried_again_is_undone_after_its_last_attempt_only() -> None:
    @agent("@undo/again", retries=1)
    async def again(ctx: Context, args: Any) -> None:
        await ctx.on_failure("undo", undo, "it")
        done.append("tried")
        raise AgentError("no", retryable=True)

    result = run(again)
    # The code runs once more as far as the registration, and no further.
    assert (result.status, done) == ("failed", ["tried", "tried", "undo it"])


def test_a_failing_compensation_is_tried_again_then_recorded_and_the_others_run() -> None:
    keys: list[str] = []

    @agent("@undo/failing")
    async def failing(ctx: Context, args: Any) -> None:
        def passes_by(what: str) -> None:
            keys.append(current_step().idempotency_key)
            if do(what) and done.count(what) == 1:
                raise ProviderError("busy", retry_after=0.1)

        def broken() -> None:
            do("broken")
            raise ValueError("cannot be undone")

        await ctx.on_failure("first", passes_by, "first")
        await ctx.on_failure("broken", broken)
        await ctx.on_failure("last", passes_by, "last")
        raise AgentError("no", code="cause")

    result = run(failing)
    assert result.error is not None
    assert (result.status, result.error["code"]) == ("failed", "cause")
    assert done == ["last", "last", "broken", "first", "first"]
    assert len(set(keys)) == 2, "a compensation that is tried again has the same key"
    ends = [(e["name"], e["outcome"]) for e in result.of_type("compensated")]
    assert ends == [("last", "done"), ("broken", "failed"), ("first", "done")]
    (failed,) = [e["error"] for e in result.of_type("compensated") if e["outcome"] == "failed"]
    assert "cannot be undone" in failed["message"]
    assert "compensation 'broken'" in failed["message"]


def test_a_compensation_makes_steps_once_and_waits_for_nothing() -> None:
    @agent("@undo/steps")
    async def steps(ctx: Context, args: Any) -> None:
        async def two(name: str) -> None:
            await ctx.step("one", do, f"{name} one")
            await ctx.log(f"{name} is undone")
            await ctx.step("two", do, f"{name} two")

        async def asks() -> None:
            await ctx.ask("May I?")

        for name in ("a", "b"):
            await ctx.on_failure(name, two, name)
        await ctx.on_failure("asks", asks)
        raise AgentError("no")

    writes = 4
    while True:
        done.clear()
        result = run(steps, crash_after=[writes])
        assert done == ["b one", "b two", "a one", "a two"], writes
        assert [e["outcome"] for e in result.of_type("compensated")] == ["failed", "done", "done"]
        assert "cannot be called in a compensation" in result.of_type("compensated")[0]["error"]["message"]
        if result.attempts == 3:
            break
        writes += 1
    assert [e["message"] for e in result.of_type("log")] == ["b is undone", "a is undone"]


def test_code_that_does_not_get_there_again_does_not_keep_others_from_being_undone() -> None:
    @agent("@undo/changed")
    async def changed(ctx: Context, args: Any) -> None:
        await ctx.on_failure("first", undo, "first")
        if not done:
            await ctx.on_failure("second", undo, "second")
        do("changed")
        raise AgentError("no", code="cause")

    result = run(changed)
    assert result.error is not None
    assert result.error["code"] == "cause"
    assert done == ["changed", "changed", "undo first"]
    ends = [(e["name"], e["outcome"]) for e in result.of_type("compensated")]
    assert ends == [("second", "failed"), ("first", "done")]
    assert result.of_type("compensated")[0]["error"]["code"] == "journal_mismatch"


def test_a_run_that_is_undone_begins_nothing_new() -> None:
    @agent("@undo/begins")
    async def begins(ctx: Context, args: Any) -> None:
        await ctx.on_failure("first", undo, "first")
        if done:
            await ctx.step("new", do, "new step")
        await ctx.on_failure("second", undo, "second")
        do("over")
        raise AgentError("no", code="cause")

    result = run(begins)
    assert done == ["over", "undo first"]
    ends = [(e["name"], e["outcome"]) for e in result.of_type("compensated")]
    assert ends == [("second", "failed"), ("first", "done")]


def test_what_would_not_be_found_again_is_refused() -> None:
    @agent("@undo/in_a_step")
    async def in_a_step(ctx: Context, args: Any) -> None:
        async def registers() -> None:
            await ctx.on_failure("undo", undo, "it")

        await ctx.step("registers", registers)

    error = run(in_a_step).error
    assert error is not None
    assert error["code"] == "invalid_call"


# -- cancelled, out of time, and in a tree ---------------------------------------------------------------------


async def sleeps(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.on_failure("cancel flight", undo, "flight")
    await ctx.sleep(3_600)
    do("woke")


async def asks(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.on_failure("cancel flight", undo, "flight")
    await ctx.ask("Go on?")
    do("answered")


async def works(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.on_failure("cancel flight", undo, "flight")
    await ctx.step("work", asyncio.sleep, 60)
    do("worked")


async def pays(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.on_failure("cancel flight", undo, "flight")
    await ctx.step("pay", asyncio.sleep, 60, effect="irreversible")


def _cancel(site: Installation, task_id: str) -> None:
    site.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "enough", "test"))


@pytest.mark.anyio
@pytest.mark.parametrize("fn", [sleeps, asks, works, pays])
async def test_a_cancelled_run_is_undone_and_then_stopped(fn: Callable[..., Any], database_url: str) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(fn))
        last = {sleeps: "wait", asks: "ask", works: "claim", pays: "claim"}[fn]
        await until(lambda: site.events(task_id)[-1] == last and site.journal(task_id))
        _cancel(site, task_id)
        _cancel(site, task_id)  # once more: it changes nothing
        task = await site.ended(task_id)
        assert (task.status, task.error and task.error["message"]) == (Status.STOPPED, "enough")
        assert done == ["undo flight"]
        found = [e for e in site.events(task_id) if e in ("compensate", "compensated", "stop")]
        assert found == ["compensate", "compensated", "stop"]


@pytest.mark.anyio
async def test_the_worker_dies_while_it_undoes_and_another_goes_on(database_url: str) -> None:
    first, go_on = asyncio.Event(), asyncio.Event()

    async def slow(what: str) -> None:
        do(what)
        if not first.is_set():
            first.set()
            await go_on.wait()

    async def fails(ctx: Context, args: dict[str, Any]) -> None:
        await ctx.on_failure("b", undo, "b")
        await ctx.on_failure("slow", slow, "slow")
        await ctx.on_failure("a", undo, "a")
        raise AgentError("no", code="cause")

    async with Installation(database_url, lease_seconds=0.5) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(fails))
        await first.wait()
        site.vanish(engine)
        await site.engine(lease_seconds=60.0)  # the one that has to be lost is the first
        duties = (Rescue(site.store), Admit(site.store))

        def ended() -> bool:
            for duty in duties:
                duty.run_once()
            return site.task(task_id).finished_at is not None

        await until(ended)
        task = site.task(task_id)
        assert (task.status, task.error and task.error["code"]) == (Status.FAILED, "cause")
        assert done == ["undo a", "slow", "slow", "undo b"]


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["timeout", "deadline", "no answer"])
async def test_a_run_that_is_out_of_time_is_undone(how: str, database_url: str) -> None:
    async def late(ctx: Context, args: dict[str, Any]) -> None:
        await ctx.on_failure("cancel flight", undo, "flight")
        if how == "no answer":
            await ctx.ask("Now?", timeout=0.1)
        elif how == "deadline":
            await ctx.sleep(3_600)
        else:
            await asyncio.sleep(60)

    async with Installation(database_url) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(late, timeout=600.0 if how == "timeout" else None))
        if how == "no answer":
            await site.until(task_id, Status.WAITING_FOR_INPUT)
            await until(lambda: site.transact(answers.expire))
        elif how == "deadline":
            await until(lambda: site.events(task_id)[-1] == "wait")
            over = update(Task).where(Task.id == task_id).values(deadline_at=1.0)
            site.transact(lambda tx: tx.conn.execute(over))
            assert site.transact(cancellations.expire_deadlines) == 1
            assert site.transact(cancellations.expire_deadlines) == 0
        else:
            await until(lambda: site.journal(task_id))
            life = engine._runs.get(task_id)
            assert life is not None
            assert life.attempt is not None
            limit = life.attempt.interruptions._limit
            assert limit is not None
            limit.reschedule(asyncio.get_running_loop().time())  # its ten minutes are over
        task = await site.ended(task_id)
        code = {"timeout": "timeout", "deadline": "deadline_exceeded", "no answer": "answer_timeout"}[how]
        assert (task.status, task.error and task.error["code"]) == (Status.FAILED, code)
        assert done == ["undo flight"]


def test_children_are_undone_before_their_parent_and_a_parent_waits_until_they_are() -> None:
    @agent("@undo/child")
    async def child(ctx: Context, args: dict[str, Any]) -> None:
        await ctx.on_failure("child", undo, f"child {args['n']}")
        if args["n"]:
            await ctx.sleep(3_600)
        raise AgentError("no", code="cause")

    @agent("@undo/parent")
    async def parent(ctx: Context, args: dict[str, Any]) -> None:
        await ctx.on_failure("parent", undo, "parent")
        await ctx.start("@undo/child", {"n": 1})
        await ctx.on_failure("later", undo, "later")
        try:
            await ctx.run("@undo/child", {"n": 0})
        except ChildFailed:
            do("child has failed")
            raise

    result = run(parent)
    assert result.status == "failed"
    assert done == ["undo child 0", "child has failed", "undo child 1", "undo later", "undo parent"]


@pytest.mark.anyio
async def test_a_run_that_was_undone_is_tried_again_from_the_beginning(database_url: str) -> None:
    async def fails_once(ctx: Context, args: dict[str, Any]) -> str:
        await ctx.step("flight", do, "flight")
        await ctx.on_failure("cancel flight", undo, "flight")
        if len(done) < 3:
            raise AgentError("no", code="cause")
        return "flown"

    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(fails_once))
        assert (await site.ended(task_id)).status is Status.FAILED

        def retry(tx: Tx) -> str:
            return retries.retry(tx, site.org, task_id, "test").task_id

        again = await site.ended(site.transact(retry))
        assert (again.output, done) == ("flown", ["flight", "undo flight", "flight"])


def _blamed(site: Installation, task_id: str) -> None:
    """The run has blocked its event loop, and the watchdog has ended the process."""
    site.transact(lambda tx: rescues.blame(tx, task_id, site.task(task_id).fence, rescues.blocked_loop(5.0)))


def _lost(site: Installation, task_id: str) -> None:
    """The run has a process of its own, and its worker is lost with it once more. (Here it goes on without one.)"""
    known = update(Task).where(Task.id == task_id)
    values = {"suspicion": int(Suspicion.ISOLATED), "releases": MOST_LOSSES}
    site.transact(lambda tx: tx.conn.execute(known.values(**values)))
    fence = site.task(task_id).fence
    assert site.transact(lambda tx: rescues.hand_on(tx, {task_id: fence}, Loss.SILENT)) == 1
    site.transact(lambda tx: tx.conn.execute(known.values(suspicion=int(Suspicion.NONE))))


@pytest.mark.anyio
@pytest.mark.parametrize(("dies", "code"), [(_blamed, "agent_blocked_loop"), (_lost, "worker_lost")])
async def test_a_compensation_that_its_process_dies_of_is_given_up_and_the_others_run(
    dies: Callable[..., None], code: str, database_url: str
) -> None:
    async def dies_of_it() -> None:
        do("dies")
        await asyncio.sleep(60)

    async def fails(ctx: Context, args: dict[str, Any]) -> None:
        await ctx.on_failure("a", undo, "a")
        await ctx.on_failure("dies", dies_of_it)
        await ctx.on_failure("b", undo, "b")
        raise AgentError("no", code="cause")

    async with Installation(database_url) as site:
        task_id = await site.submit(site.publish(fails, retries={"infrastructure": {"budget": 1}}))
        at_once = update(Task).where(Task.id == task_id).values(available_at=0.0)
        for _ in range(20):
            engine = await site.engine()
            await until(lambda: done and done[-1] in ("dies", "undo a"))
            if done[-1] == "undo a":
                break
            site.vanish(engine)
            do("died")
            dies(site, task_id)
            site.transact(lambda tx: tx.conn.execute(at_once))
            await asyncio.to_thread(Admit(site.store).run_once)
        task = await site.ended(task_id)
        assert (task.status, task.error and task.error["code"]) == (Status.FAILED, "cause")
        ended = [e["data"] for e in _events(site, task_id) if e["type"] == "compensated"]
        assert [(e["name"], e["outcome"]) for e in ended] == [
            ("b", "done"),
            ("dies", "failed"),
            ("a", "done"),
        ]
        assert ended[1]["error"]["code"] == code
        assert done == ["undo b", *["dies", "died"] * (len(done) // 2 - 1), "undo a"]
        assert "compensation_error" not in _events(site, task_id)[-1]["data"]


def _events(site: Installation, task_id: str) -> list[Any]:
    with site.store.read() as conn:
        return list(events.after(OrgScope(conn, site.org), task_id, 0, 1000))


def test_a_compensation_that_hangs_is_ended_by_its_time_limit_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds_left = executor._seconds_left

    def of_what_hangs(attempt: Attempt) -> float | None:
        """The code that registers them, and what runs after it, may take longer here."""
        undone = attempt.compensations
        return seconds_left(attempt) if undone is not None and len(undone.left) == 2 else None

    monkeypatch.setattr(executor, "_seconds_left", of_what_hangs)

    @agent("@undo/hangs", timeout=0.5)
    async def hangs(ctx: Context, args: Any) -> None:
        await ctx.on_failure("first", undo, "first")
        await ctx.on_failure("hangs", asyncio.sleep, 60)
        raise AgentError("no", code="cause")

    result = run(hangs)
    assert result.error is not None
    assert (result.error["code"], done) == ("cause", ["undo first"])
    ends = [(e["name"], e["outcome"]) for e in result.of_type("compensated")]
    assert ends == [("hangs", "failed"), ("first", "done")]
