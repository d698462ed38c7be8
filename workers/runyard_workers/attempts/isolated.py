"""Run an agent's function away from the worker's loop: in a child process, or in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, Final

from runyard.authoring import AgentDefinition
from runyard.errors import Cancelled
from runyard_common import tracing
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.tasks import Failure
from runyard_workers.agent_code.exceptions import mark
from runyard_workers.agent_code.failures import AgentFailed
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.served_code import ServedCode
from runyard_workers.isolation import deaths
from runyard_workers.processes import wire
from runyard_workers.processes.code import CodeRun, cpu_limit
from runyard_workers.processes.contexts import Start
from runyard_workers.processes.limits import Watch
from runyard_workers.processes.pool import Owner, ProcessPool
from runyard_workers.processes.process import AgentProcess, Death
from runyard_workers.processes.wire import Message

#: What code that is cancelled has for its way out before its process is killed, in seconds.
GRACE_SECONDS: Final = 1.0


async def in_process(
    attempt: Attempt, definition: AgentDefinition, context: RunContext, pool: ProcessPool
) -> Any:
    """What the function returns, in its JSON form. Raises `AgentFailed` for what it raises and for the end of its
    process; `Cancelled` where it left because it had to. A run that is cancelled ends its process."""
    owner = Owner(attempt.task.org_id, definition.versioned)
    process = await pool.acquire(owner, definition)
    ended: Message | None = None
    try:
        async with _served(attempt, definition, context, process) as code:
            try:
                ended = await asyncio.shield(code.ended)
            except asyncio.CancelledError:
                await _leave(attempt, process, code)
                raise
    finally:
        pool.release(process, owner, ended is not None and ended[0] in ("output", "suspended"))
    return _result(attempt, context, ended)


@asynccontextmanager
async def _served(
    attempt: Attempt, definition: AgentDefinition, context: RunContext, process: AgentProcess
) -> AsyncGenerator[ServedCode]:
    """Inside, the code runs in the process and its calls are served."""
    code = ServedCode(attempt, context, process.send, own_loop=definition.is_async)
    limit: list[Failure] = []

    def on_exceeded(failure: Failure) -> None:
        limit.append(failure)
        process.kill()

    def on_death(death: Death) -> None:
        if not code.ended.done():
            code.ended.set_exception(AgentFailed(limit[0] if limit else _crashed(definition, death)))

    watch = Watch(process.pid, definition.memory_mb, definition.cpu_seconds, on_exceeded)
    process.function, process.on_message, process.on_death = code.function, code.receive, on_death
    watch.start()
    process.send("run", _start(attempt, definition, context))
    attempt.interruptions.on_deferred = lambda: process.send("leaving", attempt.ended_by)
    if process.death is not None:
        on_death(process.death)
    try:
        yield code
    finally:
        watch.stop()
        code.close()


async def _leave(attempt: Attempt, process: AgentProcess, code: ServedCode) -> None:
    """Let the code leave, unless its run is another's by now; then, or when it does not, end its process."""
    if attempt.ended_by != "lost" and process.alive:
        process.send("cancel", attempt.ended_by or "timeout")
        await asyncio.wait([code.ended], timeout=GRACE_SECONDS)
    process.kill()
    if code.ended.done() and not code.ended.cancelled():
        code.ended.exception()  # it is not looked at


def _crashed(definition: AgentDefinition, death: Death) -> Failure:
    cpu = definition.cpu_seconds
    if cpu is not None and death.status == -signal.SIGXCPU:
        return cpu_limit(cpu)
    if death.garbage is not None:
        return Failure(
            "process_crashed",
            f"The agent's process was killed: it sent its worker what is no message ({death.garbage}). Look for code "
            "that writes to a descriptor that it has not opened.",
            Cause.AGENT,
            True,
        )
    return Failure(
        "process_crashed",
        f"The agent's process crashed: {deaths.described(death.status, death.out_of_memory)}. Look for native code, "
        "os._exit, signals that it sends to itself, or memory without a bound.",
        Cause.AGENT,
        True,
        details=deaths.details(death.status, death.out_of_memory),
        traceback=death.stack,
    )


async def in_thread(attempt: Attempt, definition: AgentDefinition, context: RunContext) -> Any:
    """As `in_process`, for a coroutine function in a thread. One that does not leave keeps its thread."""
    loop = asyncio.get_running_loop()
    code: ServedCode

    def send(text: bytes) -> None:
        loop.call_soon_threadsafe(_receive, code, text)

    run: CodeRun | None = None

    def answer(*message: Any) -> None:
        if run is not None:
            run.answer(message)

    code = ServedCode(attempt, context, answer, own_loop=True)
    run = started = CodeRun(definition, _start(attempt, definition, context), send)
    attempt.interruptions.on_deferred = lambda: started.calls.leave(attempt.ended_by or "cancel")
    call = attempt.executor.submit(copy_context().run, _in_this_thread, run)
    try:
        ended = await asyncio.shield(code.ended)
    except asyncio.CancelledError:
        run.cancel(attempt.ended_by or "timeout")
        await asyncio.wait([code.ended], timeout=GRACE_SECONDS)
        raise
    finally:
        code.close()
    await asyncio.wrap_future(call)  # its thread is free again, but for what the code left in it
    return _result(attempt, context, ended)


def _in_this_thread(run: CodeRun) -> None:
    try:
        run.execute()
    finally:
        run.close()


def _receive(code: ServedCode, text: bytes) -> None:
    code.receive(wire.read(text, code.function))


def _start(attempt: Attempt, definition: AgentDefinition, context: RunContext) -> Start:
    output = attempt.output
    return Start(
        task=context.task,
        session=context.session,
        files=[(file.id, file.name, file.media_type, file.size) for file in context.files],
        deadline=attempt.deadline,
        seconds_left=attempt.seconds_left(),
        input=dict(attempt.task.input or {}),
        bounds=attempt.bounds,
        lines_before=None if output is None else output.count,
        memory_mb=definition.memory_mb,
        cpu_seconds=definition.cpu_seconds,
        traceparent=tracing.stored(),
    )


def _result(attempt: Attempt, context: RunContext, ended: Message) -> Any:
    how, value = ended
    if how == "output":
        return value
    if how == "suspended" and context.suspension is not None:
        raise context.suspension
    if how == "failed":
        failure, step = value
        failed = AgentFailed(Failure(**{**failure, "cause": Cause(failure["cause"])}))
        if step is not None:
            mark(failed, step)
        raise failed
    raise Cancelled(attempt.ended_by or "cancelled")
