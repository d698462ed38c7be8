"""A Celery task of the author's own app as an agent. See `runyard.adapters.celery_task`."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from celery import Celery, Task
from celery.backends.base import DisabledBackend
from celery.states import SUCCESS

from runyard.adapters._celery_states import State, changes
from runyard.checkpoints import CheckpointLog
from runyard.context import Context, Effect
from runyard.errors import AgentError

_LOG: Final = "celery"
_IDS: Final = uuid.UUID("5b0f6f3e-6a0b-4c55-9d52-3f6c1f6d2a10")
#: Longest traceback that an error carries, in characters: its end.
_MOST_TRACEBACK: Final = 20_000


@dataclass(frozen=True)
class CallOptions:
    """How a task is sent and waited for. Times are in seconds."""

    effect: Effect = "irreversible"
    wait: bool = True
    poll: float = 2.0
    terminate: bool = False
    send: Mapping[str, Any] | None = None


def celery_task(
    task: str | Task,
    app: Celery | str | None = None,
    *,
    arguments: Callable[[Any, Any], Any] | None = None,
    output: Callable[[Any], Any] | None = None,
    effect: Effect = "irreversible",
    wait: bool = True,
    poll: float = 2.0,
    terminate: bool = False,
    **send: Any,
) -> CeleryTaskAgent:
    """A Celery task of your own app as an agent: sent once, run by your workers, its result the run's output.

    `task` is the task, or its name, with `app`: a Celery app or where one is, ``"shop.celery:app"``. The run's
    arguments are the task's: an object by name, a list by position; or what `arguments`, a function of (ctx, args),
    returns. `output` makes the run's output of the result. A worker lost while it sends leaves unknown whether the
    task was sent: with ``effect="irreversible"`` an operator decides, with ``"idempotent"`` it is sent again with the
    same id. With ``wait=False`` the run completes with the Celery task's id. A Redis backend is heard at once, others
    are asked every `poll` seconds. A run that is cancelled or out of time revokes the task; `terminate` ends it while
    it runs. `send` are further options of `apply_async`, such as ``queue="slow"``.

    Raises `TypeError` for a name without an app.
    """
    options = CallOptions(effect, wait, poll, terminate, send)
    return CeleryTaskAgent(task, app, arguments, output, options)


class CeleryTaskAgent:
    """Called with (ctx, args) it is an agent; `run` gives the task's result inside a function of one's own."""

    #: It writes to its run's journal itself, which is the worker's.
    only_isolation: Final = "loop"

    def __init__(
        self,
        task: str | Task,
        app: Celery | str | None,
        arguments: Callable[[Any, Any], Any] | None,
        output: Callable[[Any], Any] | None,
        options: CallOptions,
    ) -> None:
        if isinstance(task, str) == isinstance(task, Task) or (isinstance(task, str) and app is None):
            raise TypeError(
                "celery_task() takes a task, or the name of one and its app: celery_task('shop.pay', app)."
            )
        self._task, self._app = task, app
        self._name: str = task if isinstance(task, str) else task.name
        self._arguments, self._output = arguments, output
        self._options = options
        self.__doc__ = f"The Celery task {self._name}."

    async def __call__(self, ctx: Context, args: Any) -> Any:
        """Run the task as an agent: objects are its keyword arguments, lists its positional ones."""
        given = args if self._arguments is None else self._arguments(ctx, args)
        if isinstance(given, Mapping):
            result = await self.run(ctx, **given)
        else:
            listed = isinstance(given, Sequence) and not isinstance(given, str)
            result = await self.run(ctx, *(given if listed else [] if given is None else [given]))
        return result if self._output is None else self._output(result)

    async def run(self, ctx: Context, /, *args: Any, **kwargs: Any) -> Any:
        """Send the task once across crashes and return its result; without `wait`, its id.

        Raises `AgentError` celery_task_failed with the exception and traceback, celery_task_revoked.
        """
        by_name = isinstance(self._app, str)  # then its module is imported, which takes its time
        app = await asyncio.to_thread(self._celery) if by_name else self._celery()
        if self._options.wait and isinstance(app.backend, DisabledBackend):
            raise AgentError(
                f"The result of {self._name} cannot be learnt: its app has no result backend. Set result_backend in "
                "the app's configuration, or wait=False to send the task only.",
                code="no_result_backend",
                retryable=False,
            )
        log = ctx.checkpoint_log(_LOG)
        failed = {entry.about["failed"] for entry in log.entries if "failed" in entry.about}
        send = partial(self._send, app, args, kwargs)
        number = 1
        try:
            while (id_ := await self._sent(ctx, number, send)) in failed:
                number += 1  # an earlier attempt's, which failed: a retry of the run sends the task again
            if not self._options.wait:
                return id_
            states = changes(app, id_, self._options.poll, lambda: ctx.cancelled)
            return await _ended(log, states, self._name, id_)
        except BaseException:  # a cancellation, or what a library made of it
            if ctx.stopped:  # in a thread that nothing waits for: this attempt has to leave now
                revoke = partial(app.control.revoke, self._id(ctx, number), terminate=self._options.terminate)
                asyncio.get_running_loop().run_in_executor(None, revoke)
            raise

    async def _sent(self, ctx: Context, number: int, send: Callable[[str], str]) -> str:
        id_: str = await ctx.step(
            f"send {self._name}", send, self._id(ctx, number), effect=self._options.effect
        )
        return id_

    def _id(self, ctx: Context, number: int) -> str:
        return str(uuid.uuid5(_IDS, f"{ctx.task.id}/{self._name}/{number}"))

    def _celery(self) -> Celery:
        if isinstance(self._task, Task):
            return self._task.app
        if isinstance(self._app, str):
            module, _, name = self._app.partition(":")
            self._app = getattr(importlib.import_module(module), name or "app")
        if not isinstance(self._app, Celery):
            raise TypeError(f"celery_task({self._name!r}): {self._app!r} is no Celery app.")
        return self._app

    def _send(self, app: Celery, args: Sequence[Any], kwargs: Mapping[str, Any], id_: str) -> str:
        """Hand the task to its broker, in a thread; its id."""
        options = dict(self._options.send or {}) | {"task_id": id_}
        known = self._task if isinstance(self._task, Task) else app.tasks.get(self._name)
        if known is not None:  # with its own route, serializer and check of arguments
            known.apply_async(args, kwargs, **options)
        else:
            app.send_task(self._name, args, kwargs, **options)
        return id_


async def _ended(log: CheckpointLog, states: AsyncIterator[State], name: str, id_: str) -> Any:
    """The result of a task that was sent, once it is there."""
    async for state in states:
        if not state.ready:
            await log.write({"state": state.name}, None, events=[_event(id_, state)])
        elif state.name == SUCCESS:
            return state.info
        else:
            await log.write({"failed": id_}, None)
            raise _failure(name, id_, state)
    raise AssertionError("a task has an end")


def _event(id_: str, state: State) -> tuple[str, dict[str, Any]]:
    """What followers of the run see of the task: its progress, or its state."""
    info = state.info if isinstance(state.info, Mapping) else {}
    current, total = info.get("current"), info.get("total")
    if isinstance(current, int | float) and isinstance(total, int | float) and total > 0:
        message = str(info.get("message") or info.get("status") or "")
        return "progress", {"fraction": max(0.0, min(1.0, current / total)), "message": message}
    return "custom", {"name": _LOG, "data": {"id": id_, "state": state.name}}


def _failure(name: str, id_: str, state: State) -> AgentError:
    error = state.info
    kind = type(error).__name__
    if state.name == "REVOKED":
        return AgentError(
            f"The Celery task {name} was revoked.", code="celery_task_revoked", retryable=False, id=id_
        )
    return AgentError(
        f"The Celery task {name} failed: {kind}: {error}",
        code="celery_task_failed",
        retryable=True,
        id=id_,
        state=state.name,
        exception=kind,
        traceback=str(state.traceback or "")[-_MOST_TRACEBACK:],
    )
