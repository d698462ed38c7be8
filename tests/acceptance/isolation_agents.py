"""The same poison in processes of its own, in threads and on the loop; and neighbours of all three kinds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from runyard import BlockingContext, Context, agent


def _spin() -> None:
    while True:
        pass


def _eat() -> None:
    pieces = []
    while True:
        pieces.append(b"x" * 2**24)
        time.sleep(0.01)


def _eat_in_a_child() -> None:
    """A process that the agent starts counts, too."""
    program = "import time; pieces = [b'x' * 2**24 for _ in range(40)]; time.sleep(1000)"
    subprocess.run([sys.executable, "-c", program], check=False)


WAYS: dict[str, Callable[[], Any]] = {
    "spin": _spin,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "eat": _eat,
    "eat in a child": _eat_in_a_child,
}


@agent("@isolation/in_process", isolation="process")
def in_process(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Harms its process."""
    ctx.log("begins")
    WAYS[args["way"]]()


@agent("@isolation/on_own_loop", isolation="process", timeout=600)
async def on_own_loop(ctx: Context, args: dict[str, Any]) -> None:
    """The same in a coroutine."""
    await ctx.log("begins")
    WAYS[args["way"]]()


@agent("@isolation/limited", isolation="process", memory_mb=200, cpu_seconds=2)
def limited(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Has limits."""
    WAYS[args["way"]]()


@agent("@isolation/late", isolation="process", timeout=1)
def late(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Outlives its timeout."""
    WAYS[args["way"]]()


@agent("@isolation/in_thread", isolation="thread")
def in_thread(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Harms the worker's process, from a thread."""
    WAYS[args["way"]]()


@agent("@isolation/on_loop", isolation="loop")
async def on_loop(ctx: Context, args: dict[str, Any]) -> None:
    """Harms the worker's process, from its loop."""
    WAYS[args["way"]]()


async def _work(ctx: Context, args: dict[str, Any]) -> list[int]:
    found = []
    for number in count(1):
        found.append(await ctx.step(f"step {number}", os.getpid))
        await asyncio.sleep(0.2)
        if number >= args["steps"] and _may_end(args, found):
            break
    return found


def _may_end(args: dict[str, Any], found: list[int]) -> bool:
    """With `until`: once that file is there, and this process has done a step."""
    return "until" not in args or (found[-1] == os.getpid() and Path(args["until"]).exists())


@agent("@isolation/neighbour_on_loop")
async def neighbour_on_loop(ctx: Context, args: dict[str, Any]) -> list[int]:
    """Minds its own business."""
    return await _work(ctx, args)


@agent("@isolation/neighbour_in_thread", isolation="thread")
async def neighbour_in_thread(ctx: Context, args: dict[str, Any]) -> list[int]:
    """The same in a thread."""
    return await _work(ctx, args)


@agent("@isolation/neighbour_in_process", isolation="process")
async def neighbour_in_process(ctx: Context, args: dict[str, Any]) -> list[int]:
    """The same in a process."""
    return await _work(ctx, args)
