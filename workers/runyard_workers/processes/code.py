"""One run of an agent's function, in the thread that calls it: a child process's main thread, or one of a worker's."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from runyard import branches
from runyard.authoring import AgentDefinition
from runyard.errors import Cancelled, Suspension
from runyard_common import tracing
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.tasks import Failure
from runyard_workers.agent_code import values
from runyard_workers.agent_code.arguments import arguments
from runyard_workers.agent_code.exceptions import failed_step, judged
from runyard_workers.agent_code.failures import of_agent
from runyard_workers.processes.calls import Calls, exit_of
from runyard_workers.processes.contexts import Start, context_of
from runyard_workers.processes.loops import CodeLoop
from runyard_workers.processes.wire import Message


class CodeRun:
    """`execute` and then `close`, in one thread; `answer` and `cancel` from any."""

    def __init__(self, definition: AgentDefinition, start: Start, send: Callable[[bytes], None]) -> None:
        self._definition = definition
        self._start = start
        self.calls = Calls(send)
        self._loop: CodeLoop | None = None
        #: Called when the code is over, before the attempt hears of it.
        self.before_end: Callable[[], object] | None = None

    def answer(self, message: Message) -> None:
        """Bring in a message of the attempt."""
        self.calls.answer(message)

    def cancel(self, why: str) -> None:
        """Have the code end: a coroutine is cancelled, and every call of the context is refused."""
        self.calls.leave(why)
        loop = self._loop
        if loop is not None:
            loop.cancel()

    def execute(self) -> None:
        """Run the function and send how it ended."""
        try:
            with tracing.inside(self._start.traceparent):
                called = self._called()
            value = values.output(called, self._definition.name, self._start.bounds)
            self._end("output", value)
        except (StopIteration, StopAsyncIteration) as error:  # as where the function is in a thread
            self._end("failed", self._failure(exit_of(error)))
        except Exception as error:  # noqa: BLE001 - an agent may raise anything
            self._end("failed", self._failure(error))
        except BaseException as error:  # noqa: BLE001 - exits included
            self._end(*self._ended_by(error))

    def _end(self, *how: Any) -> None:
        if self.before_end is not None:
            self.before_end()
        self.calls.send("ended", *how)

    def close(self) -> int:
        """Cancel what the code left behind; how many of its tasks and threads go on all the same."""
        return 0 if self._loop is None else self._loop.close()

    def _called(self) -> Any:
        definition = self._definition
        context = context_of(self.calls, self._start, definition.is_async)
        if not definition.is_async:
            branches.begin()
            value = definition.fn(context, arguments(definition, self._start.input))
            return CodeLoop.run_once(value) if inspect.isawaitable(value) else value
        self._loop = CodeLoop()
        return self._loop.run(self._main(context))

    async def _main(self, context: Any) -> Any:
        if self.calls.cancelled is not None:  # before there was a loop
            raise Cancelled(self.calls.cancelled)
        definition = self._definition
        branches.begin()
        value = await definition.fn(context, arguments(definition, self._start.input))
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            await asyncio.sleep(0)  # a cancellation that it ordered for itself bites here
        return value

    def _ended_by(self, error: BaseException) -> Message:
        ordinary = judged(error, self.calls.is_ordered)
        if isinstance(ordinary, Suspension):
            return ("suspended", None)
        if not isinstance(ordinary, Exception):
            return ("cancelled", None)
        if ordinary is not error:
            ordinary.__cause__ = error
        return ("failed", self._failure(ordinary))

    def _failure(self, error: Exception) -> tuple[dict[str, Any], str | None]:
        """What `error` means for the run, and the key of the step that it failed."""
        limit = self._start.memory_mb
        if limit is not None and issubclass(type(error), MemoryError):
            failure = memory_limit(limit)
        else:
            failure = of_agent(error).failure
        return dataclasses.asdict(failure), failed_step(error)


def memory_limit(memory_mb: int) -> Failure:
    """The failure of a run whose code would have had more memory than its agent declares."""
    return Failure(
        "memory_limit",
        f"The agent's process used more memory than its memory_mb={memory_mb} allows. Work on less at a time, or "
        "raise it.",
        Cause.AGENT,
        True,
        details={"memory_mb": memory_mb},
    )


def cpu_limit(cpu_seconds: float) -> Failure:
    """The failure of a run whose code has used up the processor time that its agent declares."""
    return Failure(
        "cpu_limit",
        f"The agent's process used its cpu_seconds={cpu_seconds:g} of processor time. Look for a loop without an end, "
        "or raise it.",
        Cause.AGENT,
        True,
        details={"cpu_seconds": cpu_seconds},
    )
