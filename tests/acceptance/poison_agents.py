"""Agents that harm their process, and some that mind their own business."""

from __future__ import annotations

import _thread
import asyncio
import ctypes
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from runyard import BlockingContext, Context, agent


@agent("@poison/sleeper")
async def sleeper(ctx: Context, args: dict[str, Any]) -> int:
    """Takes its time, without a step."""
    await asyncio.sleep(args["seconds"])
    return ctx.task.attempt


@agent("@poison/stepper")
def stepper(ctx: BlockingContext, args: dict[str, Any]) -> list[str]:
    """Works in steps, in a thread."""
    return [ctx.step(f"step-{n}", _write, args["ledger"], n) for n in range(args["steps"])]


def _write(ledger: str, number: int) -> str:
    line = f"{number} {os.getpid()}\n"
    with open(ledger, "a") as file:  # noqa: PTH123 - one write to the end, whole
        file.write(line)
    time.sleep(0.1)
    return line


@agent("@poison/exits")
async def exits(ctx: Context, args: dict[str, Any]) -> None:
    """Ends the process, as native libraries do."""
    await asyncio.sleep(0.1)
    os._exit(3)


@agent("@poison/segfaults")
def segfaults(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Reads where nothing is."""
    ctypes.string_at(0)


@agent("@poison/is_killed")
async def is_killed(ctx: Context, args: dict[str, Any]) -> None:
    """Dies as the kernel kills for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(1)


@agent("@poison/blocks")
async def blocks(ctx: Context, args: dict[str, Any]) -> None:
    """Calls what waits without giving the loop back."""
    time.sleep(1000)  # noqa: ASYNC251 - that is the point


@agent("@poison/spins", timeout=1)
async def spins(ctx: Context, args: dict[str, Any]) -> None:
    """Computes for ever; its own timeout has no chance."""
    while True:
        pass


@agent("@poison/keeps_lock")
def keeps_lock(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Is in native code that keeps the interpreter's lock."""
    ctypes.PyDLL(None).sleep(1000)


@agent("@poison/leaks")
def leaks(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Leaves no file descriptor to anybody."""
    descriptors = vars(ctypes).setdefault("_poison_descriptors", [])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))  # as the stock limit is
    try:
        while True:
            descriptors.append(os.dup(0))
    except OSError:
        return


@agent("@poison/leaves_behind")
async def leaves_behind(ctx: Context, args: dict[str, Any]) -> str:
    """Ends, and has started what goes on."""

    async def later() -> None:
        await asyncio.sleep(0.5)
        await ctx.step("late", _write, args["ledger"], 0)

    vars(ctypes).setdefault("_tasks_of_poison", []).append(asyncio.ensure_future(later()))
    return "done"


@agent("@poison/hangs", timeout=0.5)
def hangs(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Outlives its timeout in its thread."""
    threading.Event().wait(1000)


@agent("@poison/quick")
def quick(ctx: BlockingContext, args: dict[str, Any]) -> str:
    """Needs a thread for a moment."""
    return str(ctx.step("quick", lambda: "done"))


@agent("@poison/forks")
async def forks(ctx: Context, args: dict[str, Any]) -> str:
    """Leaves a child behind that returns to the loop, as a classic daemon does."""
    if os.fork() == 0:
        if args["how"] == "exits":
            raise SystemExit(0)
        return "child"
    return "parent"


@agent("@poison/forks_in_thread")
def forks_in_thread(ctx: BlockingContext, args: dict[str, Any]) -> str:
    """The same from a thread."""
    return "child" if os.fork() == 0 else "parent"


SIGNALS: dict[str, Callable[[], Any]] = {
    "itself": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "its group": lambda: os.kill(0, signal.SIGINT),
    "its parent": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "raised": lambda: signal.raise_signal(signal.SIGINT),
    "its thread": lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM),
    "interrupt": lambda: _thread.interrupt_main(),  # noqa: PLW0108 - as it is when it is called
}


@agent("@poison/signals")
async def signals(ctx: Context, args: dict[str, Any]) -> None:
    """Ends the program, as scripts do."""
    SIGNALS[args["how"]]()
    await asyncio.sleep(60)  # it is ended before


@agent("@poison/signals_in_thread")
def signals_in_thread(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """The same from a thread."""
    SIGNALS[args["how"]]()
    time.sleep(10)  # its run has ended before; the thread is free again when the next test wants it
