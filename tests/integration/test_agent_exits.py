"""Every way out of an agent's code ends its run as failed, by its own fault, once; other runs of its process go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runyard import AbnormalExit, AgentError, BlockingContext, Context, agent
from runyard.testing import Outcome, arun, run
from runyard_common.runs.rules.lifecycle import Status
from tests.agent_exits import ASYNC, PLAIN, Own
from tests.installation import Installation

Way = tuple[Callable[[], Any], str]
ALL = PLAIN | ASYNC


def _as_async(way: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def leave() -> Any:
        result = way()
        return await result if asyncio.iscoroutine(result) else result

    return leave


async def _agent(ctx: Context, args: dict[str, Any]) -> Any:
    return await _as_async(ALL[args["way"]][0])()


def _plain_agent(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    return ALL[args["way"]][0]()


async def _step(ctx: Context, args: dict[str, Any]) -> Any:
    return await ctx.step("leave", _as_async(ALL[args["way"]][0]))


async def _plain_step(ctx: Context, args: dict[str, Any]) -> Any:
    return await ctx.step("leave", ALL[args["way"]][0])


def _step_of_a_plain_agent(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    return ctx.step("leave", ALL[args["way"]][0])


async def _task_group(ctx: Context, args: dict[str, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.step("leave", _as_async(ALL[args["way"]][0])))


async def _irreversible(ctx: Context, args: dict[str, Any]) -> Any:
    return await ctx.step("leave", _as_async(ALL[args["way"]][0]), effect="irreversible")


PLACES: list[Any] = [
    _agent,
    _plain_agent,
    _step,
    _plain_step,
    _step_of_a_plain_agent,
    _task_group,
    _irreversible,
]
for place in PLACES:
    agent(f"@out/{place.__name__.strip('_')}")(place)


@agent("@out/own_loop", isolation="thread")
async def _own_loop(ctx: Context, args: dict[str, Any]) -> Any:
    """A step of code on a loop of its own: its calls cross as those of a process do."""
    return await ctx.step("leave", _as_async(ALL[args["way"]][0]))


@agent("@out/own_loop_body", isolation="thread")
async def _own_loop_body(ctx: Context, args: dict[str, Any]) -> Any:
    return await _as_async(ALL[args["way"]][0])()


#: A task that cancels itself is no failure of its group: asyncio goes on without it.
NO_FAILURE = ("a cancellation of itself", "a cancellation of itself and a return")
CASES = [
    (place, way)
    for place in PLACES
    for way in ALL
    if not (place == _plain_agent and way in ASYNC) and not (place == _task_group and way in NO_FAILURE)
]


@pytest.mark.parametrize("way", ALL)
def test_each_way_out_of_a_step_fails_the_run_once_and_names_what_happened(way: str) -> None:
    _assert_failed(run(_step, {"way": way}, timeout=20), ALL[way][1])


@pytest.mark.parametrize("place", [_own_loop, _own_loop_body])
@pytest.mark.parametrize("way", ALL)
def test_each_way_out_of_code_on_a_loop_of_its_own_does_the_same(place: Any, way: str) -> None:
    _assert_failed(run(place, {"way": way}, timeout=20), ALL[way][1])


@pytest.mark.parametrize("way", PLAIN)
def test_each_way_out_of_a_plain_agent_fails_the_run_once(way: str) -> None:
    _assert_failed(run(_plain_agent, {"way": way}, timeout=20), ALL[way][1])


@pytest.mark.anyio
@pytest.mark.parametrize("way", [way for way in ALL if "exit" in way])
async def test_each_way_out_leaves_the_loop_of_the_test_alone(way: str) -> None:
    _assert_failed(await arun(_agent, {"way": way}, timeout=20), ALL[way][1])


def _assert_failed(outcome: Outcome, text: str) -> None:
    assert outcome.error is not None, outcome
    found = outcome.error
    assert (outcome.status, found["code"], found["cause"]) == ("failed", "agent_error", "agent"), found
    assert outcome.attempts == 1
    assert text in found["message"]
    assert len(found["message"]) <= 2000


@pytest.mark.anyio
@pytest.mark.timeout(300)  # some 170 runs
async def test_runs_with_every_way_out_in_their_process_complete_at_the_first_attempt(
    database_url: str,
) -> None:
    async def innocent(ctx: Context, args: dict[str, Any]) -> str:
        for number in range(5):
            await ctx.step(f"wait {number}", asyncio.sleep, 0.05)
        return "done"

    async with Installation(database_url, capacity=300) as site:
        places = {place: site.publish(place) for place in PLACES}
        other = site.publish(innocent)
        await site.engine()
        innocents = [await site.submit(other) for _ in range(10)]
        guilty = [(way, await site.submit(places[place], {"way": way})) for place, way in CASES]
        innocents += [await site.submit(other) for _ in range(10)]
        for way, task_id in guilty:
            task = await site.ended(task_id, 200)
            assert (task.status, task.attempt) == (Status.FAILED, 1), (way, task.error)
            assert task.error is not None
            assert (task.error["code"], task.error["cause"]) == ("agent_error", "agent")
            assert ALL[way][1] in task.error["message"]
        for task_id in innocents:
            task = await site.ended(task_id, 200)
            assert (task.status, task.output, task.attempt) == (Status.COMPLETED, "done", 1)


def test_an_error_in_a_step_names_the_step_and_its_cause() -> None:
    @agent("@out/caused")
    async def caused(ctx: Context, args: Any) -> None:
        def add_up() -> None:
            try:
                raise KeyError("amount")
            except KeyError as error:
                raise ValueError("no total") from error

        await ctx.step("total", add_up)

    error = run(caused).error
    assert error is not None
    assert error["message"] == "ValueError: no total (caused by KeyError: 'amount') (in step 'total')"


def test_an_agent_may_catch_what_its_step_left_by() -> None:
    @agent("@out/catching")
    async def catching(ctx: Context, args: Any) -> str:
        try:
            await ctx.step("exit", PLAIN["sys.exit"][0])
        except AbnormalExit as left:
            await ctx.ask("Go on?")  # the step's failure is replayed after the answer
            return left.type
        return "no"

    outcome = run(catching, answers=["yes"])
    assert (outcome.status, outcome.output, outcome.attempts) == ("completed", "SystemExit", 2)


class Refused(Exception):
    """With a constructor of its own."""

    def __init__(self, code: int, *, why: str) -> None:
        self.code = code
        self.why = why
        super().__init__(f"{code}: {why}")


RAISED: list[Exception] = [
    ValueError("plain"),
    KeyError("name"),
    OSError(2, "No such file", "a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    Refused(7, why="too dear"),
    ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    TimeoutError(),
    ConnectionError("gone"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_failed_step_replays_with_the_same_type_and_text(error: Exception) -> None:
    tries: list[int] = []

    @agent("@out/replaying")
    async def replaying(ctx: Context, args: Any) -> list[Any]:
        def fail() -> None:
            tries.append(1)
            raise error

        try:
            await ctx.step("fail", fail)
        except type(error) as caught:
            first = [type(caught).__name__, str(caught), getattr(caught, "code", None)]
            await ctx.ask("Go on?")
            return first
        raise AssertionError

    outcome = run(replaying, answers=["yes"])
    assert outcome.output == [type(error).__name__, str(error), getattr(error, "code", None)]
    assert len(tries) == 1


@pytest.mark.anyio
async def test_a_context_of_another_run_can_be_used_for_nothing(database_url: str) -> None:
    kept: list[Context] = []
    begun, over = asyncio.Event(), asyncio.Event()

    async def keeps(ctx: Context, args: Any) -> str:
        kept.append(ctx)
        begun.set()
        await over.wait()
        return str(await ctx.step("own", lambda: "mine"))

    async def borrows(ctx: Context, args: Any) -> Any:
        other = kept[0]
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "step": lambda: other.step("own", lambda: "stolen"),
            "ask": lambda: other.ask("Who?"),
            "review": lambda: other.review("pay"),
            "run": lambda: other.run("@test/none"),
            "emit": lambda: other.emit("stolen", {}),
            "token": lambda: other.token("stolen"),
            "messages": other.messages,
        }
        for call in calls.values():
            with pytest.raises(AgentError) as refused:
                await call()
            assert refused.value.code == "context_of_another_run"
        return "refused each"

    def borrows_in_a_thread(ctx: BlockingContext, args: Any) -> Any:
        other: Any = kept[0]
        return asyncio.run(other.step("own", lambda: "stolen"))

    async with Installation(database_url) as site:
        names = [site.publish(fn) for fn in (keeps, borrows, borrows_in_a_thread)]
        await site.engine()
        owner = await site.submit(names[0])
        await begun.wait()
        assert (await site.ended(await site.submit(names[1]))).output == "refused each"
        error = (await site.ended(await site.submit(names[2]))).error or {}
        assert error["code"] == "context_of_another_run"
        over.set()
        task = await site.ended(owner)
        assert (task.status, task.output) == (Status.COMPLETED, "mine")


def test_agents_that_start_each_other_without_end_are_stopped() -> None:
    begun: set[str] = set()
    messages: list[str] = []

    @agent("@out/recursive")
    async def recursive(ctx: Context, args: Any) -> Any:
        begun.add(ctx.task.id)
        try:
            return await ctx.run("@out/recursive", {})
        except AgentError as error:
            messages.append(error.message)
            raise

    assert run(recursive, timeout=55).status == "failed"
    assert len(begun) == 50
    assert "50 runs wait for each other already" in messages[0]


def test_a_time_limit_around_a_step_is_still_the_agents_own() -> None:
    @agent("@out/limiting")
    async def limiting(ctx: Context, args: Any) -> str:
        try:
            async with asyncio.timeout(0.05):
                await ctx.step("slow", asyncio.sleep, 30)
        except TimeoutError:
            return "too slow"
        return "no"

    assert run(limiting).output == "too slow"


def test_an_agent_that_blocks_the_loop_fails_the_test_and_is_named() -> None:
    @agent("@out/blocking")
    async def blocking(ctx: Context, args: Any) -> None:
        while not released.wait(0.01):
            pass

    released = threading.Event()
    with pytest.raises(AssertionError, match=r"(?s)did not end within 6 s.*in blocking"):
        run(blocking, timeout=6)  # it has to begin
    released.set()


def test_an_agent_that_swallows_its_cancellation_fails_the_test() -> None:
    @agent("@out/stubborn")
    async def stubborn(ctx: Context, args: Any) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    with pytest.raises(AssertionError, match=r"did not end within 0\.5 s"):
        run(stubborn, timeout=0.5)


def test_a_thread_that_never_returns_fails_the_test() -> None:
    released = threading.Event()

    @agent("@out/stuck")
    def stuck(ctx: BlockingContext, args: Any) -> None:
        released.wait(60)

    with pytest.raises(AssertionError, match=r"did not end within 0\.5 s"):
        run(stuck, timeout=0.5)
    released.set()


def test_a_retry_that_the_agent_declares_is_for_its_abnormal_ends_too() -> None:
    @agent("@out/retrying", retries=1)
    async def retrying(ctx: Context, args: Any) -> str:
        if ctx.task.attempt == 1:
            raise Own("once")
        return "done"

    outcome = run(retrying)
    assert (outcome.status, outcome.attempts) == ("completed", 2)
