"""The poison of the chaos runs: agents that end in every wrong way, and the end that each must have.

Its run ends as its own failure, and the runs beside it notice nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from runyard import AgentError, BlockingContext, Context, agent
from tests.chaos.agents import life_of

#: How long code that blocks for ever blocks in truth: long after it must have been ended, in seconds.
FOR_EVER = 120.0
#: How long an agent's thread outlives its timeout, in seconds.
OUTLIVES = 20.0


@dataclass(frozen=True)
class Ends:
    """How a run may end: completed, or failed with one of these codes, within so many attempts."""

    codes: tuple[str, ...] = ()
    completed: bool = False
    attempts: int = 1

    def allow(self, status: str, code: str | None) -> bool:
        """Whether this end is one of them."""
        return self.completed if status == "completed" else status == "failed" and code in self.codes


class Fatal(BaseException):
    """An exception that `except Exception` does not catch."""


class Unprintable(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


async def _exit(ctx: Context) -> Any:
    sys.exit(3)


async def _exit_in_step(ctx: Context) -> Any:
    return await ctx.step("leave", sys.exit, 3)


async def _stray_cancel(ctx: Context) -> Any:
    raise asyncio.CancelledError


async def _awaits_cancelled(ctx: Context) -> Any:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def _cancels_itself(ctx: Context) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def _base_exception(ctx: Context) -> Any:
    raise Fatal("no")


async def _keyboard(ctx: Context) -> Any:
    raise KeyboardInterrupt


async def _generator_exit(ctx: Context) -> Any:
    raise GeneratorExit


async def _group(ctx: Context) -> Any:
    raise BaseExceptionGroup("several", [SystemExit(1), ValueError("no")])


async def _surrogate(ctx: Context) -> Any:
    raise ValueError("cannot read " + b"caf\xe9.txt".decode("utf-8", "surrogateescape"))


async def _nul(ctx: Context) -> Any:
    raise ValueError("a\0b")


async def _unprintable(ctx: Context) -> Any:
    raise Unprintable


async def _error_detail(ctx: Context) -> Any:
    raise AgentError("no", reason=object())


async def _review_decimal(ctx: Context) -> Any:
    return str(await ctx.review("pay", {"amount": Decimal("12.30")}))


async def _review_object(ctx: Context) -> Any:
    return str(await ctx.review("pay", {"what": object()}))


async def _ask_object(ctx: Context) -> Any:
    return str(await ctx.ask("Which?", timeout=2, on_timeout="default", default=object()))


async def _emit_object(ctx: Context) -> Any:
    await ctx.emit("odd", {"what": object()})


async def _emit_nan(ctx: Context) -> Any:
    await ctx.emit("odd", {"what": float("nan")})


async def _emit_nul(ctx: Context) -> Any:
    await ctx.emit("odd", {"what": "a\0b"})


async def _return_object(ctx: Context) -> Any:
    return object()


async def _stop_iteration(ctx: Context) -> Any:
    return next(iter([]))


async def _stop_iteration_in_step(ctx: Context) -> Any:
    return await ctx.step("first", next, iter([]))


async def _blocks_loop(ctx: Context) -> Any:
    time.sleep(FOR_EVER)  # noqa: ASYNC251 - that is the poison


async def _spins(ctx: Context) -> Any:
    until = time.monotonic() + FOR_EVER
    while time.monotonic() < until:
        pass


async def _os_exit(ctx: Context) -> Any:
    os._exit(3)


async def _segfault(ctx: Context) -> Any:
    ctypes.string_at(0)


async def _kills_itself(ctx: Context) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(60)


async def _memory_hog(ctx: Context) -> Any:
    blocks = []
    while True:
        blocks.append(bytearray(os.urandom(1 << 20)) * 16)
        await asyncio.sleep(0)


async def _cancels_all(ctx: Context) -> Any:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)


async def _stops_loop(ctx: Context) -> Any:
    asyncio.get_running_loop().stop()


def _plain_exit(ctx: BlockingContext) -> Any:
    sys.exit(2)


def _plain_stop_iteration(ctx: BlockingContext) -> Any:
    return next(iter([]))


def _plain_cancel(ctx: BlockingContext) -> Any:
    raise asyncio.CancelledError


_OWN = Ends(("agent_error",))
_NO_JSON = Ends(("value_not_json",))
_BLOCKED = Ends(("agent_blocked_loop",), attempts=3)
_DIED = Ends(("process_died",), attempts=6)

#: What each `async def` poison does, and how its run must end.
ASYNC: dict[str, tuple[Callable[[Context], Awaitable[Any]], Ends]] = {
    "exit": (_exit, _OWN),
    "exit_in_step": (_exit_in_step, _OWN),
    "stray_cancel": (_stray_cancel, _OWN),
    "awaits_cancelled": (_awaits_cancelled, _OWN),
    "cancels_itself": (_cancels_itself, _OWN),
    "base_exception": (_base_exception, _OWN),
    "keyboard": (_keyboard, _OWN),
    "generator_exit": (_generator_exit, _OWN),
    "group": (_group, _OWN),
    "surrogate": (_surrogate, _OWN),
    "nul": (_nul, _OWN),
    "unprintable": (_unprintable, _OWN),
    "error_detail": (_error_detail, _OWN),
    "review_decimal": (_review_decimal, Ends(completed=True, attempts=2)),
    "review_object": (_review_object, _NO_JSON),
    "ask_object": (_ask_object, _NO_JSON),
    "emit_object": (_emit_object, _NO_JSON),
    "emit_nan": (_emit_nan, _NO_JSON),
    "emit_nul": (_emit_nul, Ends(completed=True)),
    "return_object": (_return_object, Ends(("result_not_json",))),
    "stop_iteration": (_stop_iteration, _OWN),
    "stop_iteration_in_step": (_stop_iteration_in_step, _OWN),
    "cancels_all": (_cancels_all, Ends(("agent_error",), completed=True)),
    "stops_loop": (_stops_loop, Ends(("agent_error",), completed=True)),
    "blocks_loop": (_blocks_loop, _BLOCKED),
    "spins": (_spins, _BLOCKED),
    "os_exit": (_os_exit, _DIED),
    "segfault": (_segfault, _DIED),
    "kills_itself": (_kills_itself, _DIED),
    "memory_hog": (_memory_hog, _DIED),
}

#: The same for plain functions.
PLAIN: dict[str, tuple[Callable[[BlockingContext], Any], Ends]] = {
    "plain_exit": (_plain_exit, _OWN),
    "plain_stop_iteration": (_plain_stop_iteration, _OWN),
    "plain_cancel": (_plain_cancel, _OWN),
}

#: How the run of each kind of poison must end.
ENDS: dict[str, Ends] = {
    **{kind: ends for kind, (_, ends) in ASYNC.items()},
    **{kind: ends for kind, (_, ends) in PLAIN.items()},
    "outlives": Ends(("timeout",)),
}
#: Poison that ends or blocks the worker's whole process: slow to judge, for its leases have to run out.
DEADLY = ("blocks_loop", "spins", "os_exit", "segfault", "kills_itself", "memory_hog")
#: Poison that needs a bound on memory, so that the host survives it: see `tests.chaos.memory`.
HUNGRY = ("memory_hog",)


def agent_of(kind: str) -> str:
    """The agent that does `kind`."""
    return {"outlives": "@chaos/outlives"}.get(
        kind, "@chaos/plain_poison" if kind in PLAIN else "@chaos/poison"
    )


@agent("@chaos/poison")
async def poison(ctx: Context, args: dict[str, Any]) -> Any:
    """Does what `kind` names."""
    life_of(ctx)
    return await ASYNC[args["kind"]][0](ctx)


@agent("@chaos/plain_poison")
def plain_poison(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    """Does what `kind` names, in a thread."""
    life_of(ctx, thread=True)
    return PLAIN[args["kind"]][0](ctx)


@agent("@chaos/outlives", timeout=2)
def outlives(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    """Sleeps in its thread long after its time is up."""
    life_of(ctx, thread=True)
    time.sleep(OUTLIVES)
