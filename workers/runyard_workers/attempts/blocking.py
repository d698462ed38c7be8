"""The context of a plain `def` agent: every call crosses from its thread to the loop and back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Literal, TypeVar

from runyard.awaited_calls import Effect, OnNoAnswer, OnNoDecision
from runyard.branches import branched
from runyard.context import BlockingContext
from runyard.errors import AgentError, Cancelled
from runyard.turns import ModelTurn
from runyard_workers.agent_code.exceptions import abnormal
from runyard_workers.agent_code.forks import refuse_copy
from runyard_workers.attempts.caught import HANDLED, handled
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.replay import BRANCHED

T = TypeVar("T")


class ThreadContext(BlockingContext):
    """See `runyard.BlockingContext`."""

    def __init__(self, inner: RunContext, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop
        self._pid = os.getpid()
        self.task, self.session, self.files = inner.task, inner.session, inner.files

    @property
    def deadline(self) -> float | None:
        return self._inner.deadline

    @property
    def cancelled(self) -> bool:
        return self._inner.cancelled

    @property
    def stopped(self) -> bool:
        return self._inner.stopped

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            refuse_copy(self._pid)
        except AgentError:
            coroutine.close()
            raise
        if self._inner.cancelled:
            coroutine.close()
            raise Cancelled("the task was stopped or ran out of time")
        if (suspension := self._inner.suspension) is not None:  # and the code caught it
            coroutine.close()
            raise suspension
        # The coroutine has this thread's context variables, not its exceptions.
        handles = HANDLED.set(handled())
        branch = BRANCHED.set(BRANCHED.get() or branched())
        try:
            # BaseExceptions (a suspension, a cancellation) would end the loop if they left a task of it.
            answer, error = self._sent(coroutine).result()
        finally:
            BRANCHED.reset(branch)
            HANDLED.reset(handles)
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]

    def _sent(self, coroutine: Coroutine[Any, Any, T]) -> Future[tuple[T | None, BaseException | None]]:
        shielded = self._shielded(coroutine)
        try:
            return asyncio.run_coroutine_threadsafe(shielded, self._loop)
        except RuntimeError:  # the loop is closed
            shielded.close()
            coroutine.close()
            raise Cancelled("the worker has ended") from None

    def step(  # type: ignore[override] # mypy loses a TypeVarTuple in the comparison
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        effect: Effect = "idempotent",
        returns: Any = ...,
        **kwargs: Any,
    ) -> Any:
        return self._call(self._inner.step(name, fn, *args, effect=effect, returns=returns, **kwargs))

    def ask(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        schema: Any = None,
        returns: Any = ...,
        options: Sequence[Any] | None = None,
        timeout: float | None = None,
        on_timeout: OnNoAnswer | None = None,
        default: Any = ...,
        key: str | None = None,
    ) -> Any:
        return self._call(
            self._inner.ask(
                question,
                schema=schema,
                returns=returns,
                options=options,
                timeout=timeout,
                on_timeout=on_timeout,
                default=default,
                key=key,
            )
        )

    def review(
        self,
        action: str,
        arguments: Any = None,
        *,
        schema: Any = None,
        timeout: float | None = None,
        on_timeout: OnNoDecision = "fail",
        key: str | None = None,
    ) -> Any:
        return self._call(
            self._inner.review(
                action, arguments, schema=schema, timeout=timeout, on_timeout=on_timeout, key=key
            )
        )

    def run(
        self,
        agent: Any,
        args: Any = None,
        *,
        returns: Any = ...,
        message: str | None = None,
        **options: Any,
    ) -> Any:
        return self._call(self._inner.run(agent, args, returns=returns, message=message, **options))

    def model_turn(
        self, name: str, call: Callable[[], ModelTurn], *, agent: str | None = None, asked: str | None = None
    ) -> Any:
        return self._call(self._inner.model_turn(name, call, agent=agent, asked=asked))

    def tool_call(
        self,
        tool: str,
        arguments: Any,
        fn: Callable[[Any], Any],
        *,
        call_id: str,
        effect: Effect = "idempotent",
        review: bool = False,
        schema: Mapping[str, Any] | None = None,
    ) -> Any:
        return self._call(
            self._inner.tool_call(
                tool, arguments, fn, call_id=call_id, effect=effect, review=review, schema=schema
            )
        )

    def start(self, agent: Any, args: Any = None, *, message: str | None = None, **options: Any) -> str:
        return self._call(self._inner.start(agent, args, message=message, **options))

    def map(
        self,
        agent: Any,
        args: Iterable[Any],
        *,
        returns: Any = ...,
        concurrency: int = 10,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[Any]:
        return self._call(
            self._inner.map(
                agent,
                args,
                returns=returns,
                concurrency=concurrency,
                return_exceptions=return_exceptions,
                **options,
            )
        )

    def gather(self, *calls: Callable[[], Any], return_exceptions: bool = False) -> Any:
        inner = [self._inner.in_thread(call) for call in calls]
        return self._call(self._inner.gather_calls(inner, return_exceptions))

    def sleep(self, seconds: float | None = None, *, until: datetime | None = None) -> None:
        self._call(self._inner.sleep(seconds, until=until))

    def wait_for_event(
        self, name: str, *, key: str | None = None, timeout: float | None = None, default: Any = ...
    ) -> Any:
        return self._call(self._inner.wait_for_event(name, key=key, timeout=timeout, default=default))

    def _state(self, op: str, name: str, value: Any) -> Any:
        return self._call(self._inner._state(op, name, value))

    def heartbeat(self, within: float | None = None) -> None:
        self._inner.heartbeat(within)

    def _shield(self, on: bool, seconds: float) -> None:
        if on:
            self._call(self._inner._shield(True, seconds))
            return
        # Its end must be noted in a run that is cancelled, too.
        _, error = asyncio.run_coroutine_threadsafe(
            self._shielded(self._inner._shield(False, seconds)), self._loop
        ).result()
        if error is not None:
            raise error

    def secret(self, name: str) -> str:
        return self._call(self._inner.secret(name))

    def on_failure(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._call(self._inner.on_failure(name, fn, *args, **kwargs))

    def emit(self, type: str, data: Any = None) -> None:
        self._call(self._inner.emit(type, data))

    def progress(self, fraction: float, message: str = "") -> None:
        self._call(self._inner.progress(fraction, message))

    def log(self, message: str, level: Literal["debug", "info", "warn", "error"] = "info") -> None:
        self._call(self._inner.log(message, level))

    def token(self, text: str) -> None:
        self._call(self._inner.token(text))

    def messages(self) -> list[Any]:
        return self._call(self._inner.messages())

    def _provider(self, vendor: str) -> Mapping[str, str]:
        return self._inner._provider(vendor)

    async def _shielded(self, coroutine: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
        try:
            with self._inner.thread_waits():
                return await coroutine, None
        except asyncio.CancelledError as error:
            return None, Cancelled("the worker is leaving") if self._inner.leaving else abnormal(error)
        except BaseException as error:  # noqa: BLE001 - handed to the thread, which raises it
            return None, error
