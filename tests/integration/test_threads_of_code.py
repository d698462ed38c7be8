"""Calls of threads and tasks that an agent has started: after a crash they may come in another order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyard import BlockingContext, Context, ModelTurn, agent
from runyard.testing import run

Event = threading.Event | asyncio.Event


def _in_turn(events: Callable[[], Any], args: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Whom each of the two waits for, and which of them is the first: another at the second attempt."""
    path = Path(args["attempts"])
    first = "b" if path.exists() else "a"
    path.touch()
    turns = {"a": events(), "b": events()}
    turns[first].set()
    return turns, "a" if first == "b" else "b"


def _answered(name: str) -> ModelTurn:
    return ModelTurn(value=f"answer to {name}", model="test-model")


def _in_threads(ctx: BlockingContext, args: dict[str, Any]) -> list[str]:
    turns, later = _in_turn(threading.Event, args)

    def call(name: str) -> Any:
        turns[name].wait()  # in an attempt that is lost, for ever
        if args["what"] == "steps":
            value = ctx.step(name, str.upper, name)
        else:
            value = ctx.model_turn("model", lambda: _answered(name), asked=name)
        turns[later].set()
        return value

    found: dict[str, Any] = {}

    def note(name: str) -> None:
        try:
            found[name] = call(name)
        except BaseException as error:  # noqa: BLE001 - shown as the output
            found[name] = repr(error)

    started = [threading.Thread(target=note, args=(name,), daemon=True) for name in ("a", "b")]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return [found["a"], found["b"]]


async def _in_tasks(ctx: Context, args: dict[str, Any]) -> list[str]:
    turns, later = _in_turn(asyncio.Event, args)

    async def call(name: str) -> Any:
        await turns[name].wait()
        try:
            if args["what"] == "steps":
                return await ctx.step(name, str.upper, name)
            return await ctx.model_turn("model", lambda: _answered(name), asked=name)
        finally:
            turns[later].set()

    return list(await asyncio.gather(call("a"), call("b")))


@agent("@branches/threads")
def threads(ctx: BlockingContext, args: dict[str, Any]) -> list[str]:
    return _in_threads(ctx, args)


@agent("@branches/threads_of_a_process", isolation="process")
def threads_of_a_process(ctx: BlockingContext, args: dict[str, Any]) -> list[str]:
    return _in_threads(ctx, args)


@agent("@branches/tasks")
async def tasks(ctx: Context, args: dict[str, Any]) -> list[str]:
    return await _in_tasks(ctx, args)


@agent("@branches/tasks_of_an_own_loop", isolation="thread")
async def tasks_of_an_own_loop(ctx: Context, args: dict[str, Any]) -> list[str]:
    return await _in_tasks(ctx, args)


@agent("@branches/tasks_of_a_process", isolation="process")
async def tasks_of_a_process(ctx: Context, args: dict[str, Any]) -> list[str]:
    return await _in_tasks(ctx, args)


OF_A_PROCESS = (threads_of_a_process, tasks_of_a_process)


@pytest.mark.parametrize("what", ["steps", "turns"])
@pytest.mark.parametrize(
    "of", [threads, threads_of_a_process, tasks, tasks_of_an_own_loop, tasks_of_a_process]
)
def test_one_that_was_alone_on_record_is_found_though_another_comes_first(
    of: Any, what: str, tmp_path: Path
) -> None:
    args = {"attempts": str(tmp_path / "attempts"), "what": what}
    outcome = run(of, args, crash_after=[1 if what == "steps" else 2], processes=of in OF_A_PROCESS)
    assert outcome.error is None
    assert outcome.output == (["A", "B"] if what == "steps" else ["answer to a", "answer to b"])


@agent("@branches/changed")
def changed(ctx: BlockingContext, args: dict[str, Any]) -> None:
    path = Path(args["attempts"])
    name = "b" if path.exists() else "a"
    path.touch()
    ctx.step(name, str.upper, name)


@agent("@branches/changed_in_a_process", isolation="process")
def changed_in_a_process(ctx: BlockingContext, args: dict[str, Any]) -> None:
    changed(ctx, args)


@agent("@branches/changed_in_an_own_loop", isolation="thread")
async def changed_in_an_own_loop(ctx: Context, args: dict[str, Any]) -> None:
    path = Path(args["attempts"])
    name = "b" if path.exists() else "a"
    path.touch()
    await ctx.step(name, str.upper, name)


@pytest.mark.parametrize("of", [changed, changed_in_a_process, changed_in_an_own_loop])
def test_code_that_starts_none_is_compared_call_by_call(of: Any, tmp_path: Path) -> None:
    args = {"attempts": str(tmp_path / "attempts")}
    outcome = run(of, args, crash_after=[1], processes=of is changed_in_a_process)
    assert outcome.error is not None
    assert outcome.error["code"] == "journal_mismatch"
    assert "calls 'b#1' where its journal has 'a#1'" in outcome.error["message"]
