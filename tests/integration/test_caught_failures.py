"""Code that catches the failure of a step or a turn and goes on: a resumed attempt meets the same failure again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyard import AgentError, BlockingContext, Context, ModelTurn, agent
from runyard.testing import Outcome, run
from runyard_common.runs.rules.journal import CONCURRENT, INSIDE, Placed, caught

CALLS: list[str] = []


def _fails_once(error: Exception, then: Callable[[int], Any]) -> Callable[[], Any]:
    def work() -> Any:
        CALLS.append("work")
        if len(CALLS) == 1:
            raise error
        return then(len(CALLS))

    return work


def _turn(number: int) -> ModelTurn:
    return ModelTurn({"asked": number}, "m")


async def _step(ctx: Context) -> Any:
    work = _fails_once(AgentError("not yet", code="not_yet"), lambda number: {"asked": number})
    try:
        return await ctx.step("ask", work)
    except AgentError as error:
        return {**await ctx.step("ask", work), "after": [error.code, str(error)]}


async def _model(ctx: Context) -> Any:
    work = _fails_once(ValueError("no answer"), _turn)
    try:
        return await ctx.model_turn("ask", work)
    except ValueError:
        return await ctx.model_turn("ask", work)


@agent("@caught/goes_on", retries=1)
async def _goes_on(ctx: Context, args: dict[str, Any]) -> Any:
    got = await {"step": _step, "model": _model}[args["of"]](ctx)
    if args.get("fails") and ctx.task.attempt == 1:
        raise KeyError("later")
    return [got, await ctx.ask("And?"), await ctx.step("last", str, 5)]


@pytest.mark.parametrize("of", ["step", "model"])
@pytest.mark.parametrize("crash", [None, *range(1, 7)])
def test_what_failed_and_was_caught_is_not_done_again_after_a_crash(of: str, crash: int | None) -> None:
    CALLS.clear()
    outcome = run(_goes_on, {"of": of}, crash_after=[crash] if crash else [], answers=["yes"])
    got = {"asked": 2, "after": ["not_yet", "not yet"]} if of == "step" else {"asked": 2}
    assert (outcome.error, outcome.output) == (None, [got, "yes", "5"])
    assert len(CALLS) == 2


@pytest.mark.parametrize("of", ["step", "model"])
def test_nor_where_the_run_fails_later_and_is_tried_again(of: str) -> None:
    CALLS.clear()
    outcome = run(_goes_on, {"of": of, "fails": True}, answers=["yes"])
    assert (outcome.error, outcome.attempts, len(CALLS)) == (None, 3, 2)


@agent("@caught/ends", retries=1)
async def _ends(ctx: Context, args: dict[str, Any]) -> Any:
    try:
        return await ctx.step("ask", _fails_once(AgentError("not yet"), str))
    except AgentError:
        await ctx.log("it failed")
        raise


def test_a_failure_that_ends_the_attempt_is_tried_again_although_the_code_looked_at_it() -> None:
    CALLS.clear()
    outcome = run(_ends, {})
    assert (outcome.error, outcome.output, outcome.attempts) == (None, "2", 2)


def test_what_came_after_a_failure_shows_that_it_was_caught() -> None:
    failed, later = Placed("t", "a#1", 1, None, "failed"), Placed("t", "b#1", 2, None, "done")
    inner = later._replace(detail={INSIDE: "a#1"})
    innermost = Placed("t", "c#1", 3, {INSIDE: "b#1"}, "done")
    assert caught([failed, later]) == [("t", "a#1")]
    assert caught([failed, inner, innermost]) == []
    assert caught([failed._replace(pos=3), later]) == []
    assert caught([failed._replace(detail={CONCURRENT: True}), later]) == []
    assert caught([failed, later._replace(detail={CONCURRENT: True})]) == []
    assert caught([failed, later._replace(task_id="other")]) == []


def _fails(args: dict[str, Any], name: str) -> str:
    """Fails as often as `args` say, and notes each call in a file, which processes share."""
    file = Path(args["file"])
    file.write_text(f"{file.read_text()} {name}")
    if file.read_text().split().count(name) <= args.get(name, 0):
        raise ValueError(f"no {name}")
    return name


async def _cleans_up(ctx: Context, args: dict[str, Any]) -> Any:
    try:
        return await ctx.step("build", _fails, args, "build")
    except ValueError as error:
        await ctx.step("remove", _fails, args, "remove", effect=args.get("effect", "idempotent"))
        if args.get("translates"):
            raise RuntimeError("not built") from error
        raise
    finally:
        if args.get("leaves"):
            await ctx.step("leave", _fails, args, "leave")


def _cleans_up_plainly(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    try:
        return ctx.step("build", _fails, args, "build")
    except ValueError as error:
        ctx.step("remove", _fails, args, "remove", effect=args.get("effect", "idempotent"))
        if args.get("translates"):
            raise RuntimeError("not built") from error
        raise
    finally:
        if args.get("leaves"):
            ctx.step("leave", _fails, args, "leave")


@agent("@caught/thread_with_a_loop", retries=5, isolation="thread")
async def _thread_with_a_loop(ctx: Context, args: dict[str, Any]) -> Any:
    return await _cleans_up(ctx, args)


@agent("@caught/process", retries=5, isolation="process")
def _process(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    return _cleans_up_plainly(ctx, args)


@agent("@caught/process_with_a_loop", retries=5, isolation="process")
async def _process_with_a_loop(ctx: Context, args: dict[str, Any]) -> Any:
    return await _cleans_up(ctx, args)


for _fn in (_cleans_up, _cleans_up_plainly):
    agent(f"@caught/{_fn.__name__[1:]}", retries=5)(_fn)
CLEANED = ["build", "remove", "leave"]


def _did(fn: Any, args: dict[str, Any], file: Path) -> tuple[Outcome, list[str]]:
    file.touch()
    outcome = run(fn, {**args, "file": str(file)}, processes="process" in fn.__name__)
    return outcome, file.read_text().split()


@pytest.mark.parametrize("fn", [_cleans_up, _cleans_up_plainly, _thread_with_a_loop])
@pytest.mark.parametrize(
    ("args", "did"),
    [
        ({"build": 2, "leaves": True}, [*CLEANED, *CLEANED, "build", "leave"]),
        ({"build": 1, "translates": True}, ["build", "remove", "build"]),
        ({"build": 1, "remove": 1}, ["build", "remove", "build"]),
        ({"build": 1, "remove": 1, "leaves": True}, [*CLEANED, "build", "leave"]),
    ],
)
def test_a_failure_that_ends_the_attempt_is_tried_again_with_its_clean_up(
    fn: Any, args: dict[str, Any], did: list[str], tmp_path: Path
) -> None:
    outcome, found = _did(fn, args, tmp_path / "did")
    assert (outcome.error, outcome.output, found) == (None, "build", did)


@pytest.mark.parametrize("fn", [_process, _process_with_a_loop])
def test_so_it_is_in_a_process_of_its_own(fn: Any, tmp_path: Path) -> None:
    outcome, found = _did(fn, {"build": 1, "remove": 1, "leaves": True}, tmp_path / "did")
    assert (outcome.error, outcome.output, found) == (None, "build", [*CLEANED, "build", "leave"])


@pytest.mark.parametrize("fn", [_cleans_up, _cleans_up_plainly, _thread_with_a_loop])
def test_a_failure_stays_on_record_whose_clean_up_must_not_be_repeated(fn: Any, tmp_path: Path) -> None:
    outcome, found = _did(fn, {"build": 1, "effect": "irreversible"}, tmp_path / "did")
    assert (outcome.status, found) == ("failed", ["build", "remove"])
