"""How an agent's code may end, besides returning and raising an ordinary exception."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from runyard import Cancelled
from runyard.errors import Suspension


class Own(BaseException):
    """An author's own."""


class Unprintable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> NoReturn:
        raise SystemExit(1)

    __repr__ = __str__


def _raise(error: BaseException) -> Callable[[], Any]:
    def leave() -> Any:
        raise error.with_traceback(None)

    return leave


def _parse() -> Any:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int)
    return parser.parse_args(["--n", "x"]).n


NESTED = ExceptionGroup("g", [ExceptionGroup("h", [ValueError("the real reason")])])
MIXED = BaseExceptionGroup("g", [Own("mine"), ValueError("x")])

#: name: (what the code does, what the run's error names)
PLAIN: dict[str, tuple[Callable[[], Any], str]] = {
    "sys.exit": (lambda: sys.exit(2), "SystemExit: the code ended its process (exit code 2)"),
    "sys.exit with a text": (lambda: sys.exit("bye"), "SystemExit: the code ended its process (exit code 1, 'bye')"),
    "argparse": (_parse, "SystemExit: the code ended its process (exit code 2)"),
    "KeyboardInterrupt": (_raise(KeyboardInterrupt()), "KeyboardInterrupt: the code interrupted its process"),
    "GeneratorExit": (_raise(GeneratorExit()), "GeneratorExit: the code closed"),
    "its own BaseException": (_raise(Own("mine")), "Own: mine"),
    "a BaseExceptionGroup": (_raise(MIXED), "Own: mine; ValueError: x"),
    "next() of nothing": (lambda: next(iter([])), "StopIteration"),
    "StopAsyncIteration": (_raise(StopAsyncIteration()), "StopAsyncIteration"),
    "CancelledError": (_raise(asyncio.CancelledError()), "CancelledError: cancelled, and not by Runyard"),
    "the engine's Cancelled": (_raise(Cancelled("no")), "Cancelled: raised by the code itself"),
    "the engine's Suspension": (_raise(Suspension()), "Suspension: raised by the code itself"),
    "TimeoutError": (_raise(TimeoutError("mine")), "TimeoutError: mine"),
    "ConnectionError": (_raise(ConnectionResetError("mine")), "ConnectionResetError: mine"),
    "OSError": (_raise(OSError(2, "No such file", "a")), "FileNotFoundError: [Errno 2] No such file: 'a'"),
    "half a surrogate pair": (_raise(ValueError("cannot read caf\udce9 \0")), "ValueError: cannot read caf\ufffd"),
    "an unspeakable error": (_raise(Unprintable()), "Unprintable"),
    "a text of 10 MB": (_raise(ValueError("x" * 10_000_000)), "ValueError: xxx"),
    "a group": (_raise(NESTED), "ValueError: the real reason"),
}  # fmt: skip


async def _await_cancelled() -> Any:
    child = asyncio.create_task(asyncio.sleep(60))
    child.cancel()
    await child


async def _cancel_itself() -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def _cancel_itself_and_return() -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "done"


async def _exit_in_a_task_group() -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exit())
        group.create_task(asyncio.sleep(60))


async def _exit_in_a_gathered_task() -> Any:
    await asyncio.gather(_exit(), asyncio.sleep(0.05))


async def _exit_in_a_forgotten_task() -> Any:
    forgotten = asyncio.create_task(_exit())
    await asyncio.sleep(0.05)
    return await forgotten


async def _exit_in_a_thread() -> Any:
    await asyncio.to_thread(sys.exit, 3)


async def _exit() -> Any:
    sys.exit(3)


ASYNC: dict[str, tuple[Callable[[], Any], str]] = {
    "await of a cancelled task": (_await_cancelled, "CancelledError"),
    "a cancellation of itself": (_cancel_itself, "CancelledError"),
    "a cancellation of itself and a return": (_cancel_itself_and_return, "CancelledError"),
    "an exit in a task group": (
        _exit_in_a_task_group,
        "SystemExit: the code ended its process (exit code 3)",
    ),
    "an exit in a gathered task": (_exit_in_a_gathered_task, "SystemExit"),
    "an exit in a task of its own": (_exit_in_a_forgotten_task, "SystemExit"),
    "an exit in asyncio.to_thread": (_exit_in_a_thread, "SystemExit"),
}


def _raised(leave: Callable[[], Any]) -> BaseException:
    try:
        leave()
    except BaseException as error:  # noqa: BLE001 - these are the ways
        return error
    raise AssertionError("it returned")


ALL_PLAIN_ERRORS = [_raised(leave) for name, (leave, _) in PLAIN.items() if name != "argparse"]
