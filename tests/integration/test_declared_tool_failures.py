"""What a tool raises or returns is a result that its agent sees: no run fails or hangs for it."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from runyard.errors import AgentError
from runyard.tools import tool
from runyard_common.runs.rules.tasks import Task
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import calls, reply, results_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


class OwnError(BaseException):
    pass


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


class Opaque:
    def __repr__(self) -> str:
        raise ValueError("no repr")


class BadDump:
    def model_dump(self, **_: Any) -> Any:
        raise SystemExit(5)


def _group() -> BaseException:
    return BaseExceptionGroup("unhandled errors", [ValueError("the real reason"), SystemExit(2)])


RAISED: dict[str, tuple[Callable[[], BaseException], str]] = {
    "an exit": (lambda: SystemExit(3), "SystemExit: 3"),
    "an interrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "a cancellation": (lambda: asyncio.CancelledError("mine"), "CancelledError: mine"),
    "a generator's exit": (GeneratorExit, "GeneratorExit"),
    "its own BaseException": (lambda: OwnError("odd"), "OwnError: odd"),
    "an exhausted iterator": (StopIteration, "StopIteration"),
    "an exhausted async iterator": (StopAsyncIteration, "StopAsyncIteration"),
    "its own timeout": (lambda: TimeoutError("mine"), "TimeoutError: mine"),
    "a group": (_group, "ValueError: the real reason; SystemExit: 2"),
    "no text": (Unreadable, "Unreadable: its text cannot be read"),
    "an exit instead of text": (Exits, "Exits: its text cannot be read"),
    "half a surrogate pair": (lambda: ValueError("name \ud800\x00"), "ValueError: name \ufffd\ufffd"),
    "a very long text": (lambda: ValueError("x" * 10_000_000), "ValueError: xxx"),
    "an agent's error": (lambda: AgentError("no stock"), "no stock"),
    "no memory": (MemoryError, "MemoryError"),
}
_raise: list[Callable[[], BaseException]] = []
_return: list[Any] = []
_ran: list[str] = []


@tool(name="odd_async")
async def odd_async() -> Any:
    """Fail."""
    _ran.append("async")
    error = _raise[-1]()
    raise error


@tool(name="odd_plain")
def odd_plain() -> Any:
    """Fail."""
    _ran.append("plain")
    error = _raise[-1]()
    raise error


@tool(name="odd_value")
def odd_value() -> Any:
    """Return something."""
    return _return[-1]


@tool(name="cancels_itself")
async def cancels_itself() -> str:
    """Cancel the task it runs in."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(5)
    return "never"


@tool(name="awaits_a_cancelled_task")
async def awaits_a_cancelled_task() -> str:
    """Await a task it cancelled."""
    task = asyncio.create_task(asyncio.sleep(5))
    task.cancel()
    await task
    return "never"


@tool(name="too_slow", timeout=0.2)
async def too_slow() -> str:
    """Sleep."""
    await asyncio.sleep(30)
    return "never"


@tool(name="in_time")
async def in_time() -> str:
    """Answer."""
    await asyncio.sleep(0.1)
    return "fine"


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as declared:
        tools = [
            "odd_async",
            "odd_plain",
            "odd_value",
            "cancels_itself",
            "awaits_a_cancelled_task",
            "too_slow",
        ]
        declared.publish(tools=[*tools, "in_time"])
        _ran.clear()
        yield declared


async def called(declared: Declared, name: str) -> tuple[Task, str, str]:
    """Have the agent call a tool: its run, how the call ended, and what the model was given."""
    declared.server.answer(calls((name, {}), ("in_time", {})), reply("Went on."))
    task = await declared.completed("Go.")
    assert (task.output, task.attempt) == ("Went on.", 1)
    first, second = sorted(declared.events(task, "tool_result"), key=lambda event: event["tool"] == "in_time")
    assert (second["outcome"], second["result"]) == ("ok", "fine")
    return task, first["outcome"], results_of(declared.server.requests[1])[0]


@pytest.mark.parametrize("name", ["odd_async", "odd_plain"])
@pytest.mark.parametrize(("make", "words"), RAISED.values(), ids=RAISED.keys())
async def test_what_a_tool_raises_is_a_failed_result(
    declared: Declared, name: str, make: Callable[[], BaseException], words: str
) -> None:
    _raise.append(make)
    _, outcome, result = await called(declared, name)
    assert outcome == "failed"
    assert f"The tool '{name}' failed" in result
    if name == "odd_async" and words == "StopIteration":
        words = "coroutine raised StopIteration"  # Python's own translation
    assert words in result
    assert len(result) < 5000
    assert len(_ran) == 1


@pytest.mark.parametrize("name", ["cancels_itself", "awaits_a_cancelled_task"])
async def test_a_cancellation_that_was_not_ordered_is_a_failed_result(declared: Declared, name: str) -> None:
    _, outcome, result = await called(declared, name)
    assert (outcome, "CancelledError" in result) == ("failed", True)


async def test_a_tool_that_takes_too_long_is_reported_so(declared: Declared) -> None:
    _, outcome, result = await called(declared, "too_slow")
    assert (outcome, "did not answer within 0.2 s" in result) == ("failed", True)


async def test_a_run_is_cancelled_in_the_middle_of_a_tool(declared: Declared) -> None:
    declared.publish("@test/brief", tools=[{"name": "too_slow", "timeout": 60}], timeout=0.5)
    declared.server.answer(calls(too_slow={}))
    began = time.monotonic()
    task = await declared.run("Go.", agent="@test/brief")
    assert task.error is not None
    assert (task.error["code"], time.monotonic() - began < 10) == ("timeout", True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (decimal.Decimal("19.99"), "19.99"),
        ({"at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}, "2026-01-02T00:00:00"),
        (Path("a/b"), "a/b"),
        (None, "null"),
        (b"plain", "plain"),
    ],
)
async def test_values_of_python_are_given_in_json_form(declared: Declared, value: Any, shown: str) -> None:
    _return.append(value)
    _, outcome, result = await called(declared, "odd_value")
    assert outcome == "ok"
    assert shown in result or value in (None, b"plain")


def _nested() -> Any:
    value: Any = []
    for _ in range(3000):
        value = [value]
    return value


def _circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


ODD: dict[str, Any] = {
    "a long integer": 2**70,
    "a surrogate": "half \ud800",
    "a surrogate key": {"half \ud800": 1},
    "bytes": b"\xff\xfe",
    "an object": Opaque(),
    "an exit on the way": BadDump(),
    "a mixed set": {1, "a"},
    "nan": float("nan"),
    "deep": _nested(),
    "a circle": _circle(),
    "a class": object,
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD.keys())
async def test_a_value_without_json_form_is_a_failed_result_or_replaced(
    declared: Declared, value: Any
) -> None:
    _return.append(value)
    _, outcome, result = await called(declared, "odd_value")
    assert outcome in ("ok", "failed")
    assert outcome == "ok" or "The result of the tool 'odd_value' has no JSON form" in result


@pytest.mark.parametrize("value", ["y" * 3_000_000, {"lines": ["y" * 100] * 30_000}], ids=["text", "object"])
async def test_a_huge_result_is_cut_and_marked(declared: Declared, value: Any) -> None:
    _return.append(value)
    _, outcome, result = await called(declared, "odd_value")
    assert outcome == "ok"
    assert "[Cut off: the first 500,000 of 3," in result
    assert len(result) < 600_000
