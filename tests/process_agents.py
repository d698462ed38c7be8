"""Agents that declare a process, at the top of a module: a child process imports it."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

from runyard import AbnormalExit, AgentError, BlockingContext, Context, agent, current_step
from runyard.turns import ModelTurn, ToolCall, ToolResult
from tests.waiting import until


class Refused(Exception):
    """An error of the author's own, with a constructor of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code
        self.connection = threading.Lock()  # no pickle takes it


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def _place() -> Path:
    return Path("a/b")


def _pid() -> int:
    return os.getpid()


def _refuse() -> None:
    raise Refused(7)


@agent("@process/child", isolation="process")
def child(ctx: BlockingContext, args: dict[str, Any]) -> dict[str, Any]:
    """What another runs."""
    return {"got": args, "message": ctx.task.message}


@agent("@process/failing", isolation="process")
def failing(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Fails with a code of its own."""
    raise AgentError("no", code="my_code", why=[1, 2])


@agent("@process/calls", isolation="process")
async def calls(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Makes every call there is."""
    (file,) = ctx.files
    assert ctx.session is not None
    await ctx.token("so ")
    await ctx.emit("seen", {"at": Path("a/b")})
    await ctx.progress(0.5, "half")
    await ctx.log("a line", "warn")
    doubled, pid = await asyncio.gather(ctx.step("double", _double, args["n"]), ctx.step("pid", _pid))
    try:
        await ctx.step("refuse", _refuse)
    except Refused as error:
        caught = [str(error), error.code]
        await ctx.emit("the error itself, where it is no replay", hasattr(error, "connection"))
    colour, size = await asyncio.gather(
        ctx.ask("Which colour?", options=["red", "blue"]), ctx.ask("Which size?", schema={"type": "integer"})
    )
    paid = await ctx.review("pay", {"amount": 5})
    await ctx.state.set("kept", {"at": Path("b")})
    return {
        "task": [ctx.task.agent, ctx.task.message, ctx.task.attempt > 1],
        "history": [line["content"] for line in ctx.session.history],
        "file": [file.name, file.size, file.read().decode()],
        "deadline": ctx.deadline is None,
        "cancelled": ctx.cancelled,
        "doubled": doubled,
        "in": "a process" if pid != args["tester"] else "the test's process",
        "caught": caught,
        "answers": [colour, size, paid],
        "child": await ctx.run("@process/child", {"n": 1}, message="hello"),
        "messages": await ctx.messages(),
        "key": await ctx.step("key", lambda: ctx.idempotency_key) != ctx.task.id,
        "state": [
            await ctx.state.get("other", Path("a")) == Path("a"),
            await ctx.state.get("kept"),
            await ctx.state.delete("kept"),
        ],
    }


@agent("@process/blocking_calls", isolation="process")
def blocking_calls(ctx: BlockingContext, args: dict[str, Any]) -> dict[str, Any]:
    """The same in a plain function."""
    (file,) = ctx.files
    assert ctx.session is not None
    ctx.token("so ")
    ctx.emit("seen", {"at": Path("a/b")})
    ctx.progress(0.5, "half")
    ctx.log("a line", "warn")
    doubled, pid = ctx.step("double", _double, args["n"]), ctx.step("pid", _pid)
    try:
        ctx.step("refuse", _refuse)
    except Refused as error:
        caught = [str(error), error.code]
        ctx.emit("the error itself, where it is no replay", hasattr(error, "connection"))
    colour = ctx.ask("Which colour?", options=["red", "blue"])
    size = ctx.ask("Which size?", schema={"type": "integer"})
    paid = ctx.review("pay", {"amount": 5})
    ctx.state.set("kept", {"at": Path("b")})
    return {
        "task": [ctx.task.agent, ctx.task.message, ctx.task.attempt > 1],
        "history": [line["content"] for line in ctx.session.history],
        "file": [file.name, file.size, file.read().decode()],
        "deadline": ctx.deadline is None,
        "cancelled": ctx.cancelled,
        "doubled": doubled,
        "in": "a process" if pid != args["tester"] else "the test's process",
        "caught": caught,
        "answers": [colour, size, paid],
        "child": ctx.run(child, {"n": 1}, message="hello"),
        "typed": ctx.step("typed", _place) == Path("a/b"),
        "messages": ctx.messages(),
        "key": ctx.step("key", lambda: current_step().idempotency_key) != ctx.task.id,
        "state": [
            ctx.state.get("other", Path("a")) == Path("a"),
            ctx.state.get("kept"),
            ctx.state.delete("kept"),
        ],
    }


async def _asked() -> ModelTurn:
    call = ToolCall("call-1", "look", {"at": "it"})
    return ModelTurn(
        {"calls": 1}, "scripted", input_tokens=7, output_tokens=3, text="let me look", tool_calls=[call]
    )


@agent("@process/turns", isolation="process")
async def turns(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """A loop of its own: what a tool calls is part of the tool's call."""

    async def look(arguments: dict[str, Any]) -> ToolResult:
        inner = await ctx.step("inner", _double, 2)
        sure = await ctx.ask(f"Look at {arguments['at']}?")
        return ToolResult([inner, sure])

    turn = await ctx.model_turn("turn", _asked)
    found = await ctx.tool_call("look", {"at": "it"}, look, call_id="call-1", review=True)
    return [turn, found, await ctx.ask("Done?")]


agent("@process/calls_on_loop")(calls)
agent("@process/turns_on_loop")(turns)


@agent("@process/looks", isolation="process", memory_mb=512, cpu_seconds=30)
def looks(ctx: BlockingContext, args: dict[str, Any]) -> dict[str, Any]:
    """What a process finds in itself."""
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            descriptors[int(name)] = stat.S_IFMT(os.fstat(int(name)).st_mode)
        except OSError:
            continue  # the listing's own
    return {
        "settings": [name for name in os.environ if name.startswith("RUNYARD_")],
        "kept": os.environ.get("OF_THE_AUTHOR"),
        "sockets": sum(kind == stat.S_IFSOCK for kind in descriptors.values()),
        "descriptors": len(descriptors),
        "leader": os.getpgrp() == os.getpid(),
        "main_thread": threading.current_thread() is threading.main_thread(),
        "start_method": multiprocessing.get_start_method(allow_none=True),
        "parent_process": multiprocessing.parent_process() is None,
        "policy": type(asyncio.get_event_loop_policy()).__module__,
        "terminates": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    }


@agent("@process/leaves", isolation="process")
async def leaves(ctx: Context, args: dict[str, Any]) -> int:
    """Leaves something in its process, or nothing."""
    what = args.get("what")
    if what == "a thread":
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    elif what == "a task":
        args["left"] = asyncio.create_task(_stubborn())
        await asyncio.sleep(0)
    elif what == "a child" and os.fork() == 0:
        signal.pause()
    elif what == "a variable":
        os.environ["LEFT"] = "here"
    elif what == "a failure":
        raise ValueError("no")
    return os.getpid()


async def _stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            continue


@agent("@process/asks", isolation="process")
def asks(ctx: BlockingContext, args: dict[str, Any]) -> list[int]:
    """Is suspended, and returns where it ran before and after."""
    before = ctx.step("before", _pid)
    ctx.ask("Go on?")
    return [before, os.getpid()]


@agent("@process/prints", isolation="process")
def prints(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Prints and logs."""
    print("printed")
    logging.getLogger("author").info("logged")
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()
    print("without an end", end="")


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


@agent("@process/crashes", isolation="process", retries=1)
def crashes(ctx: BlockingContext, args: dict[str, Any]) -> int:
    """Ends its process on its first attempt."""
    if args.get("garbage"):
        (own,) = (fd for fd in range(3, 100) if _is_socket(fd))
        os.write(own, b"\xff" * 100)
        time.sleep(1000)
    if ctx.task.attempt == 1 or args.get("always"):
        os._exit(3)
    return ctx.task.attempt


@agent("@process/dies_undone", isolation="process")
def dies_undone(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Ends its process while it is undone."""
    ctx.on_failure("a", str, 1)
    ctx.on_failure("dies", os._exit, 3)
    ctx.on_failure("b", str, 2)
    raise ValueError("cause")


@agent("@process/signals", isolation="process")
def signals(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Orders its worker to leave."""
    if args["to"] == "its worker":
        os.kill(os.getppid(), args["number"])
    elif args["to"] == "its worker's group":
        os.killpg(os.getpgid(os.getppid()), signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


@agent("@process/spins", isolation="process")
def spins(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Never returns."""
    ctx.progress(0)
    while True:
        pass


@agent("@process/gathers", isolation="process")
async def gathers(ctx: Any, args: dict[str, Any]) -> Any:
    """Asks, and does something else meanwhile."""
    return await ctx.gather(ctx.ask("A?"), ctx.ask("B?"), ctx.step("double", _double, 2))


@agent("@process/odd", isolation="process")
async def odd(ctx: Context, args: dict[str, Any]) -> Any:
    """Gives a call what has no form, or makes no sense."""
    if args["how"] == "an object":
        await ctx.emit("x", {"lines": [object()]})
    elif args["how"] == "a coroutine":
        await ctx.step("x", _double(1))  # type: ignore[call-overload]
    elif args["how"] == "too large":
        await ctx.step("x", lambda: "x" * 2**27)
    elif args["how"] == "a result":
        await ctx.step("x", threading.Lock)
    elif args["how"] == "an exit":
        await ctx.step("x", lambda: os.sys.exit(2))  # type: ignore[attr-defined,call-overload]
    elif args["how"] == "no such call":
        await ctx.no_such_call(1)  # type: ignore[attr-defined]


@agent("@process/adapted", isolation="process")
async def adapted(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """A provider's client, and an agent of another library."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from runyard.adapters import pydantic_ai
    from tests.integration.support_agent import Shop, support

    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    asked: Any = {"model": "gpt-test", "messages": [{"role": "user", "content": "one"}]}
    answer = await client.chat.completions.create(**asked)
    words = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
    model = OpenAIChatModel("gpt-test", provider=OpenAIProvider(base_url=args["url"], api_key="sk-test"))
    result = await pydantic_ai(support).run(ctx, "Hello.", deps=Shop(), model=model)
    return [answer.choices[0].message.content, len(words) > 1, result.output]


def _write(file: str, line: str) -> int:
    with Path(file).open("a") as out:
        return out.write(f"{line}\n")


@agent("@process/undoes", isolation="process")
async def undoes(ctx: Context, args: dict[str, Any]) -> None:
    """Fails, and undoes what it did."""
    for name in ("a", "b"):
        await ctx.on_failure(name, _write, args["file"], name)
    raise AgentError("no", code="cause")


@agent("@process/undoes_plainly", isolation="process")
def undoes_plainly(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """The same of a plain function."""
    for name in ("a", "b"):
        ctx.on_failure(name, _write, args["file"], name)
    raise AgentError("no", code="cause")


def _cannot() -> None:
    raise ValueError("cannot") from KeyError("why")


def _cannot_by_code() -> None:
    raise AgentError("cannot", code="cannot_undo", why=[1])


def _cannot_connect() -> None:
    raise ConnectionError("refused")


_UNDONE_BY = {"cannot": _cannot, "cannot_by_code": _cannot_by_code, "cannot_connect": _cannot_connect}


@agent("@process/cannot_be_undone", isolation="process")
def cannot_be_undone(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Fails, and so does what undoes it."""
    ctx.on_failure("undo", _UNDONE_BY[args["by"]])
    raise AgentError("no", code="cause")


@agent("@process/finds_nothing", isolation="process")
def finds_nothing(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    """Asks an empty iterator, in a step and outside of one."""
    try:
        return ctx.step("find", lambda: next(iter(())))
    except AbnormalExit:
        return next(iter(()))


@agent("@process/secret", isolation="process")
def secret(ctx: BlockingContext, args: dict[str, Any]) -> dict[str, Any]:
    """Reads a secret."""
    found = ctx.secret("TOKEN")
    there = any(part in value for value in os.environ.values() for part in found.splitlines())
    return {"read": "horse" in found, "in_environment": there, "shown": found}


@agent("@process/stalls", isolation="process")
async def stalls(ctx: Context, args: dict[str, Any]) -> None:
    """Names when it is heard again, and blocks."""
    async with ctx.shield():
        ctx.heartbeat(within=30)
    ctx.heartbeat(within=0.2)
    threading.Event().wait(600)


@agent("@process/stalls_plainly", isolation="process")
def stalls_plainly(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """The same of a plain function."""
    with ctx.shield():
        ctx.heartbeat(within=30)
    ctx.heartbeat(within=0.2)
    time.sleep(600)


@agent("@process/shields", isolation="process")
async def shields(ctx: Context, args: dict[str, Any]) -> None:
    """Ends its block when it has to leave."""
    async with ctx.shield(30):
        await ctx.progress(0)
        await until(lambda: ctx.cancelled)
        _write(args["file"], "block")
    _write(args["file"], "after")


async def _misspelt(ctx: Any, args: dict[str, Any]) -> None:
    """Calls what there is not, and does not wait for it."""
    ctx.setp("total", _pid)


for _isolation in ("loop", "thread", "process"):
    agent(f"@process/misspelt_in_{_isolation}", isolation=_isolation)(_misspelt)
