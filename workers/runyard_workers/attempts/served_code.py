"""The side of the attempt: serves the context calls of code that runs in a child process or a thread's own loop."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final
from weakref import ref

from runyard import steps
from runyard.errors import AgentError, Cancelled
from runyard_common import tracing
from runyard_workers.agent_code.exceptions import Described, abnormal, failed_step, note_of, within
from runyard_workers.agent_code.raised import describe
from runyard_workers.attempts.attempt import Attempt, Suspended
from runyard_workers.attempts.caught import HANDLED
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.replay import BRANCHED
from runyard_workers.isolation.siblings import Siblings
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.processes.calls import GATHER
from runyard_workers.processes.wire import Message

_serving: ContextVar[int] = ContextVar("runyard_serving_call", default=0)
#: Parts of the context that its own methods call.
_OPEN: Final = ("_provider", "_shield", "_state")
_irreversible: ContextVar[bool] = ContextVar("runyard_serving_irreversible", default=False)


class _Raised(Exception, Described):
    """What a function of the code has raised where it ran; `key` is its number there."""

    def __init__(self, key: int, described: dict[str, Any], sentence: str, failure: dict[str, Any]) -> None:
        self.key = key
        self.described = described
        self.sentence = sentence
        self.failure = failure
        super().__init__(described["message"])


class _RaisedAgentError(_Raised, AgentError):
    """The same of an `AgentError`."""

    def __init__(self, key: int, described: dict[str, Any], sentence: str, failure: dict[str, Any]) -> None:
        _Raised.__init__(self, key, described, sentence, failure)
        AgentError.__init__(self, described["message"], code=failure["code"], retryable=failure["retryable"])


class _RemoteSiblings(Siblings):
    """The coroutines of code that runs on a loop elsewhere: whether they have settled is found out there."""

    __slots__ = ("_ask", "_none")

    def __init__(self, ask: Callable[[int], Any]) -> None:
        super().__init__()
        self._ask = ask
        self._none = False

    def irreversible(self) -> Any:
        """See `Siblings`."""
        _irreversible.set(True)
        return super().irreversible()

    def outside(self) -> Any:
        """See `Siblings`."""
        _irreversible.set(False)
        return super().outside()

    @property
    def none(self) -> bool:
        """See `Siblings`; as it was when the rest last settled."""
        return self._none

    async def settle(self) -> None:
        """See `Siblings`."""
        self._none = bool(await self._ask(_serving.get()))


class ServedCode:
    """The calls of one attempt's code. Every method belongs to the loop's thread."""

    def __init__(
        self, attempt: Attempt, context: RunContext, send: Callable[..., None], *, own_loop: bool
    ) -> None:
        """`send` sends a message to the code; `own_loop`: it consists of coroutines on a loop of its own."""
        self._attempt = attempt
        self._context = context
        self._send = send
        self._own_loop = own_loop
        self._loop = asyncio.get_running_loop()
        self._run = copy_context()  # each call is served in a copy of the run's context
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._invocations: dict[int, asyncio.Future[Any]] = {}
        self._contexts: dict[int, Context] = {}  # of the calls whose functions run, by invocation
        self._settling: dict[int, asyncio.Future[bool]] = {}
        self._numbers = itertools.count(1)
        self._functions: list[tuple[int, ref[Any]]] = []  # of the message that is read
        #: How the code ended: the fields of its message `ended`. An exception where it was lost.
        self.ended: asyncio.Future[Message] = self._loop.create_future()
        if own_loop:
            attempt.siblings = _RemoteSiblings(self._settle)

    def function(self, number: int) -> Callable[..., Any]:
        """What represents the code's function of this number: called, it runs there."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._invoke(number, args, kwargs)

        self._functions.append((number, ref(call)))
        return call

    def receive(self, message: Message) -> None:
        """Take in one message of the code."""
        kind, *fields = message
        functions, self._functions = self._functions, []
        if kind in ("call", "abandon") and self.ended.done():
            pass  # what the code leaves behind is cleared away
        elif kind == "call":
            self._begin(functions, *fields)
        elif kind == "abandon":
            if (call := self._calls.get(fields[0])) is not None:
                call.cancel()
        elif kind == "line":
            if self._attempt.output is not None:
                self._attempt.output.line(*fields)
        elif kind == "ended":
            if not self.ended.done():
                self.ended.set_result(tuple(fields))
        elif kind == "settled":
            _set(self._settling.pop(fields[0], None), fields[1])
        elif kind == "returned":
            _set(self._invocations.pop(fields[1], None), fields[2])
        elif kind == "raised":
            self._raised(*fields[1:])

    def close(self) -> None:
        """End the calls that are still served: the code is over."""
        for number, call in list(self._calls.items()):
            settling = self._settling.pop(number, None)
            if settling is None:
                call.cancel()
            else:
                _set(settling, False)  # what it asks for is part of the run's suspension
        if not self.ended.done():
            self.ended.cancel()

    # -- calls ---------------------------------------------------------------------------------------------

    def _begin(
        self,
        functions: Sequence[tuple[int, ref[Any]]],
        number: int,
        inside: int,
        handles: str | None,
        branched: bool,
        path: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        # What a step's function calls is part of that step.
        context = self._contexts.get(inside, self._run).copy()
        context.run(_serving.set, number)
        if handles is not None:
            context.run(HANDLED.set, handles)
        if branched:
            context.run(BRANCHED.set, True)
        serving = self._serve(functions, number, path, args, kwargs)
        self._calls[number] = self._loop.create_task(serving, context=context)

    async def _serve(
        self,
        functions: Sequence[tuple[int, ref[Any]]],
        number: int,
        path: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        try:
            kind, value = await self._answer(path, args, kwargs)
        except asyncio.CancelledError as error:
            if self._attempt.ended_by is None:
                raise  # the code waits for it no more
            kind, value = "error", self._form(error)
        finally:
            del self._calls[number], args, kwargs
        unused = tuple(key for key, function in functions if function() is None)
        try:
            self._send(kind, number, value, unused)
        except Exception as error:  # noqa: BLE001 - a value of a call that cannot be sent: the call's failure
            self._send("error", number, self._form(error), unused)

    async def _answer(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, Any]:
        try:
            if path != "_shield" or args[0]:  # the end of a shield is noted in a run that is cancelled, too
                self._refuse_over()
            method = self._resolved(path)
            if path == GATHER:
                return "result", [self._gathered(one) for one in await method(*args, **kwargs)]
            if inspect.iscoroutinefunction(method):
                return "result", await method(*args, **kwargs)
            return "result", await in_engine_thread(method, *args, **kwargs)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - suspensions and cancellations too are raised in the code
            return "error", self._form(error)

    def _refuse_over(self) -> None:
        """A plain function gets no further once its run has to leave: its coroutines cannot be cancelled."""
        if self._context.cancelled:
            raise Cancelled("the task was stopped or ran out of time")
        if not self._own_loop and self._context.suspension is not None:
            raise self._context.suspension

    def _resolved(self, path: str) -> Callable[..., Any]:
        found: Any = self._context
        for part in path.split("."):
            if part.startswith("_") and part not in _OPEN:
                raise AttributeError(f"the context has no {path!r}")
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        return found  # type: ignore[no-any-return]

    def _gathered(self, result: Any) -> tuple[str, Any]:
        """The result of one call of a `gather`: the code has kept it, or raised it."""
        return ("error", self._form(result)) if isinstance(result, Exception) else ("result", result)

    def _form(self, error: BaseException) -> Message:
        """An exception as it crosses."""
        if isinstance(error, Suspended):
            return ("suspended",)
        if isinstance(error, Cancelled | asyncio.CancelledError):
            return (
                "cancelled",
                "the worker is leaving" if self._context.leaving else str(error) or "cancelled",
            )
        if isinstance(error, _Raised):
            return ("own", error.key, note_of(error), failed_step(error))
        ordinary = error if isinstance(error, Exception) else abnormal(error)
        return ("exception", describe(ordinary), note_of(ordinary), failed_step(ordinary))

    # -- functions of the code -----------------------------------------------------------------------------

    async def _invoke(self, function: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        invocation = next(self._numbers)
        future = self._invocations[invocation] = self._loop.create_future()
        self._contexts[invocation] = copy_context()
        step = steps._known()
        of = None if step is None else (step.name, step.idempotency_key, tracing.stored())
        call = (function, tuple(args), dict(kwargs), _irreversible.get(), of)
        self._send("invoke", _serving.get(), invocation, *call)
        try:
            return await future
        finally:
            self._invocations.pop(invocation, None)
            self._contexts.pop(invocation, None)

    def _raised(
        self,
        invocation: int,
        kind: str,
        key: int,
        described: Sequence[Any] | None,
        failure: dict[str, Any] | None,
    ) -> None:
        future = self._invocations.pop(invocation, None)
        if future is None or future.done():
            return
        error: BaseException
        if kind == "suspended":
            error = self._context.suspension or AgentError("The code raised a suspension of its own.")
        elif kind == "cancelled" or described is None or failure is None:
            error = Cancelled(self._attempt.ended_by or "cancelled")
        else:
            found, where, sentence, is_agents = described
            kind_of_error = _RaisedAgentError if is_agents else _Raised
            error = kind_of_error(key, found, sentence, failure)
            if where:
                within(error, where)
        future.set_exception(error)

    async def _settle(self, number: int) -> bool:
        future = self._settling[number] = self._loop.create_future()
        self._send("settle", number)
        return bool(await future)


def _set(future: asyncio.Future[Any] | None, value: Any) -> None:
    if future is not None and not future.done():
        future.set_result(value)
