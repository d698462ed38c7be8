"""The side of an agent's code: its context calls go out as messages, and what answers them comes in.

A call may come back before it is answered: with a function of the code to run (that of a step), which then runs in the
task or the thread that made the call, or with the question whether the rest of the code has settled.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

from runyard import branches, steps
from runyard.errors import AbnormalExit, AgentError, Cancelled, Suspension
from runyard_common import tracing
from runyard_workers.agent_code.exceptions import (
    abnormal,
    failed_step,
    judged,
    mark,
    note_of,
    sentence,
    within,
)
from runyard_workers.agent_code.failures import of_agent
from runyard_workers.agent_code.forks import refuse_copy
from runyard_workers.agent_code.raised import describe, raised_again
from runyard_workers.isolation.siblings import Siblings
from runyard_workers.processes import wire
from runyard_workers.processes.loops import CodeLoop
from runyard_workers.processes.wire import Message

#: The invocation whose function this code is part of: what it calls belongs to that.
_inside: ContextVar[int] = ContextVar("runyard_invocation", default=0)


class CodeSuspended(Suspension):
    """The attempt suspends the run: its code leaves."""


@dataclass(frozen=True)
class Bound:
    """A function with the arguments that stay with it; those that it is called with are left out."""

    fn: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self.fn(*self.args, **self.kwargs)


class LoopSiblings(Siblings):
    """The coroutines of a loop that is the code's own."""

    def _tasks(self) -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks()


#: The call of a context whose functions run at once.
GATHER: Final = "gather_calls"


#: What the calls of a `gather` return, by invocation: it stays where the code is, as the values that they are.
_Kept = dict[int, Any]


class Calls:
    """The calls of one run's code. `answer` and `cancel` may be called from any thread."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        """`send` is given the text of each message, by one thread at a time."""
        self._send = send
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._pending: deque[bytes] = deque()
        self._sending = False
        self._numbers = itertools.count(1)
        self._open: dict[int, Callable[[Message], Any]] = {}
        self._functions: dict[int, Callable[..., Any]] = {}
        self._raised: dict[int, BaseException] = {}
        self._siblings = LoopSiblings()
        self.suspended = False
        self.cancelled: str | None = None  # why the code has to end

    def leave(self, why: str) -> None:
        """The code has to end, which `cancelled` shows from now on. Nothing is interrupted."""
        self.cancelled = self.cancelled or why

    def send(self, *message: Any) -> None:
        """Send a message. Raises `AgentError` for a value that cannot be sent, and in a copy of this process."""
        refuse_copy(self._pid)
        text = wire.written(message, self._refer)
        with self._lock:
            self._pending.append(text)
            if self._sending:
                return  # this is a signal's handler, which interrupts a message
            self._sending = True
            try:
                while self._pending:
                    self._send(self._pending.popleft())
            finally:
                self._sending = False

    def answer(self, message: Message) -> None:
        """Bring in what the attempt has sent for one of the calls."""
        receive = self._open.get(message[1])
        if receive is not None:
            receive(message)

    async def call(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make a call and wait for its result in a coroutine."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        together: list[asyncio.Task[None]] = []  # the calls of a `gather`
        kept: _Kept | None = {} if path == GATHER else None
        # The calls of a `gather` are counted each by itself.
        with self._siblings.served() if kept is None else nullcontext():
            number = self._begin(
                path, args, kwargs, lambda message: loop.call_soon_threadsafe(inbox.put_nowait, message)
            )
            try:
                while (message := await inbox.get())[0] not in ("result", "error"):
                    if message[0] == "settle":
                        await self._siblings.settle()
                        self.send("settled", number, self._siblings.none)
                    elif kept is not None:
                        together.append(loop.create_task(self._run(number, message, kept)))
                    else:
                        await self._run(number, message)
            except asyncio.CancelledError:
                for task in together:
                    task.cancel()
                self.send("abandon", number)
                raise
            finally:
                del self._open[number]
        return self._result(message, kept)

    def call_blocking(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make a call and wait for its result in this thread."""
        inbox: SimpleQueue[Message] = SimpleQueue()
        kept: _Kept | None = {} if path == GATHER else None
        number = self._begin(path, args, kwargs, inbox.put)
        try:
            while (message := inbox.get())[0] not in ("result", "error"):
                self._run_here(number, message, kept)
        finally:
            del self._open[number]
        return self._result(message, kept)

    def _begin(
        self,
        path: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        receive: Callable[[Message], Any],
    ) -> int:
        number = next(self._numbers)
        self._open[number] = receive
        try:
            handles = failed_step(sys.exception())
            branched = (
                not _inside.get() and branches.branched()
            )  # a function that is called has its own order
            self.send("call", number, _inside.get(), handles, branched, path, tuple(args), dict(kwargs))
        except BaseException:
            del self._open[number]
            raise
        return number

    def _result(self, message: Message, kept: _Kept | None) -> Any:
        """What the answer to a call returns, or raises. Functions that the attempt keeps no longer are forgotten."""
        kind, _, value, unused = message
        for number in unused:
            self._functions.pop(number, None)
        if kind != "result":
            raise self._error(*value)
        if kept is None:
            return value
        return [kept[of] if how == "result" else self._error(*of) for how, of in value]

    def _error(self, kind: str, *of: Any) -> BaseException:
        if kind == "suspended":
            self.suspended = True
            return CodeSuspended("the run leaves its worker")
        if kind == "cancelled":
            self.leave(of[0])
            return Cancelled(of[0])
        known, where, step = of
        error = self._raised.pop(known) if kind == "own" else raised_again(known)
        if where:
            within(error, where)
        if step:
            mark(error, step)
        return error

    # -- functions of the code, called for the attempt ------------------------------------------------------

    def _refer(self, fn: Callable[..., Any]) -> int:
        number = next(self._numbers)
        self._functions[number] = fn
        return number

    async def _run(self, number: int, message: Message, kept: _Kept | None = None) -> None:
        _, _, invocation, function, args, kwargs, irreversible, step = message
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        inside: AbstractContextManager[None] = nullcontext()
        if kept is None:
            inside = self._siblings.irreversible() if irreversible else self._siblings.outside()
        token = _inside.set(invocation)
        try:
            with inside, _in_step(step):
                value = await self._awaited(self._functions[function], args, kwargs)
                if task.cancelling() > before:
                    await asyncio.sleep(0)  # a cancellation that it ordered for itself bites here
            self.send("returned", number, invocation, _keep(value, invocation, kept))
        except Exception as error:  # noqa: BLE001 - the attempt gets it
            self._send_raised(number, invocation, error)
        except BaseException as error:
            ordinary = self._judged(error, task.cancelling() > before)
            if isinstance(ordinary, asyncio.CancelledError):
                raise
            self._send_raised(number, invocation, ordinary)
        finally:
            _inside.reset(token)

    async def _awaited(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if is_async(fn):
            return await fn(*args, **kwargs)
        with self._siblings.served():
            call = partial(contextvars.copy_context().run, _in_thread, fn, args, kwargs)
            value, error = await asyncio.get_running_loop().run_in_executor(None, call)
        if error is not None:
            raise error
        return await value if inspect.isawaitable(value) else value

    def _run_here(self, number: int, message: Message, kept: _Kept | None) -> None:
        _, _, invocation, function, args, kwargs, _, step = message
        token = _inside.set(invocation)
        try:
            with _in_step(step):
                value = self._functions[function](*args, **kwargs)
                if inspect.isawaitable(value):
                    value = CodeLoop.run_once(value)
            self.send("returned", number, invocation, _keep(value, invocation, kept))
        except (StopIteration, StopAsyncIteration) as error:  # as where the code has a loop
            self._send_raised(number, invocation, exit_of(error))
        except Exception as error:  # noqa: BLE001 - the attempt gets it
            self._send_raised(number, invocation, error)
        except BaseException as error:  # noqa: BLE001 - exits included
            self._send_raised(number, invocation, self._judged(error, False))
        finally:
            _inside.reset(token)

    def _judged(self, error: BaseException, cancelled: bool) -> BaseException:
        ordinary = judged(error, partial(self.is_ordered, cancelled=cancelled))
        if ordinary is not error and ordinary.__cause__ is None:
            ordinary.__cause__ = error
        return ordinary

    def is_ordered(self, error: BaseException, cancelled: bool = False) -> bool:
        """Whether the engine has the code end by this exception."""
        return (
            isinstance(error, CodeSuspended)
            or (isinstance(error, Cancelled) and self.cancelled is not None)
            or (isinstance(error, asyncio.CancelledError) and (cancelled or self.cancelled is not None))
        )

    def _send_raised(self, number: int, invocation: int, error: BaseException) -> None:
        kind = type(error)
        if issubclass(kind, Suspension):
            self.send("raised", number, invocation, "suspended", None, None, None)
        elif issubclass(kind, Cancelled | asyncio.CancelledError):
            self.send("raised", number, invocation, "cancelled", None, None, None)
        else:
            key = next(self._numbers)
            self._raised[key] = error
            sent = (describe(error), note_of(error), sentence(error), issubclass(kind, AgentError))
            self.send("raised", number, invocation, "error", key, sent, asdict(of_agent(error).failure))


def _keep(value: Any, invocation: int, kept: _Kept | None) -> Any:
    """What crosses of a result: its number in place of one that is kept."""
    if kept is None:
        return value
    kept[invocation] = value
    return invocation


@contextmanager
def _in_step(step: Sequence[str] | None) -> Generator[None]:
    """Inside, the code of the step that the attempt has named runs, in the span of that step."""
    if step is None:
        with steps._running(None):
            yield
        return
    name, key, traceparent = step
    with steps._running(steps.StepInfo(name, key)), tracing.inside(traceparent):
        yield


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a coroutine: `async def`, or an object whose call is."""
    fn = fn.fn if isinstance(fn, Bound) else fn
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def exit_of(error: BaseException) -> AbnormalExit:
    """The ordinary exception in place of `error`, raised from it."""
    found = abnormal(error)
    found.__cause__ = error
    return found


def _in_thread(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, Exception | None]:
    """What `fn` returns or raises: asyncio copies a `TimeoutError` of a thread without its traceback and its cause."""
    try:
        return fn(*args, **kwargs), None
    except (StopIteration, StopAsyncIteration) as error:
        return None, exit_of(error)
    except Exception as error:  # noqa: BLE001 - raised again in the coroutine
        return None, error
