"""The contexts of agents whose code runs elsewhere: every method of `Context` is a call by its name.

A method that is added to `Context` works here as it is, if it is a coroutine whose arguments and result can cross (see
`wire`). One that takes a function `fn` and its arguments keeps those where the code is.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar, cast

from runyard.context import BlockingContext, Context, File, SessionInfo, TaskInfo
from runyard_workers.agent_code import awaited
from runyard_workers.agent_code.exceptions import represented
from runyard_workers.agent_code.values import Bounds
from runyard_workers.processes.calls import GATHER, Bound, Calls
from runyard_workers.processes.typed_calls import Restore, crossing
from runyard_workers.processes.wire import Represented

C = TypeVar("C", Context, BlockingContext)
_LONGEST_SHOWN: Final = (
    200  # characters of an argument, as a person sees it who decides on an irreversible step
)


@dataclass(frozen=True)
class Start:
    """What a run begins with. `deadline` is epoch seconds, `seconds_left` of the attempt's time."""

    task: TaskInfo
    session: SessionInfo | None
    files: Sequence[tuple[str, str, str, int]]  # id, name, media type, size in bytes
    deadline: float | None
    seconds_left: float | None
    input: Mapping[str, Any]
    bounds: Bounds
    lines_before: int | None = None  # printed by earlier attempts; None: what it prints is not for the run
    memory_mb: int | None = None
    cpu_seconds: float | None = None
    traceparent: str | None = None  # of the span that its code runs in


class _Remote:
    """What both kinds of context share."""

    _calls: Calls
    _call: Callable[..., Any]
    _ends_at: float | None

    @property
    def deadline(self) -> float | None:
        """See `Context.deadline`."""
        return cast("float | None", vars(self)["_deadline"])

    @property
    def cancelled(self) -> bool:
        """See `Context.cancelled`."""
        past = self._ends_at is not None and time.monotonic() > self._ends_at
        return past or self._calls.cancelled is not None

    @property
    def stopped(self) -> bool:
        """See `Context.stopped`."""
        past = self._ends_at is not None and time.monotonic() > self._ends_at
        return past or self._calls.cancelled in ("cancel", "timeout")

    def heartbeat(self, within: float | None = None) -> None:
        """See `Context.heartbeat`."""
        self._calls.call_blocking("heartbeat", (within,), {})

    def _provider(self, vendor: str) -> Mapping[str, str]:
        return cast("Mapping[str, str]", self._calls.call_blocking("_provider", (vendor,), {}))


class _Awaiting(_Remote):
    """Calls made at once are made here: what they wait for settles where they are."""

    async def gather(self, *awaitables: Awaitable[Any], return_exceptions: bool = False) -> Any:
        """See `Context.gather`. What is awaited stays here: functions cross, which the attempt calls."""
        try:
            calls = [awaited.awaiting(one) for one in awaitables]
            return list(await self._call(GATHER, (calls, return_exceptions), {}))
        finally:
            awaited.close(awaitables)


def _remote(base: type[_Remote], kind: type[C]) -> type[C]:
    """The class of contexts of this kind whose every abstract method is a call, but for those of `base`."""
    names = [name for name in kind.__abstractmethods__ if not hasattr(base, name)]
    members = {name: _member(name, inspect.getattr_static(kind, name)) for name in names}
    if "gather" in members:  # of a plain agent
        members["gather"] = _gather_functions
    return cast("type[C]", type(f"Remote{kind.__name__}", (base, kind), members))


def _member(name: str, of: Any) -> Any:
    split = _splitter(inspect.signature(of))

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs, restore = crossing(name, *split(args, kwargs))
        made = self._call(name, args, kwargs)
        if restore is None:
            return made
        return _restored(made, restore) if inspect.iscoroutine(made) else restore(made)

    method.__name__, method.__doc__ = name, of.__doc__
    return method


async def _restored(made: Awaitable[Any], restore: Restore) -> Any:
    return restore(await made)


def _gather_functions(self: Any, *calls: Any, return_exceptions: bool = False) -> Any:
    """See `BlockingContext.gather`. In a process of its own they are called one after another."""
    return self._call(GATHER, ([awaited.callable_(call) for call in calls], return_exceptions), {})


def _splitter(signature: inspect.Signature) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Which of a method's arguments cross: not those of a function `fn` that it takes with its arguments."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    names = list(signature.parameters)
    if "fn" not in names or inspect.Parameter.VAR_POSITIONAL not in kinds:
        return lambda args, kwargs: (args, kwargs)
    at = names.index("fn") - 1  # without self
    own = {name for name, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        mine = {key: value for key, value in kwargs.items() if key in own}
        if len(args) <= at or not callable(args[at]):
            if len(args) > at and inspect.iscoroutine(args[at]):
                args[at].close()  # a function was meant, and is asked for
            return args, mine if len(args) > at else kwargs
        bound = Bound(args[at], args[at + 1 :], {key: kwargs[key] for key in kwargs.keys() - own})
        shown = args[at + 1 :] if mine.get("effect") == "irreversible" else ()
        return (*args[:at], bound, *(Represented(represented(one)[:_LONGEST_SHOWN]) for one in shown)), mine

    return split


_RemoteContext: Final = _remote(_Awaiting, Context)  # type: ignore[type-abstract]
_RemoteBlockingContext: Final = _remote(_Remote, BlockingContext)  # type: ignore[type-abstract]


def context_of(calls: Calls, start: Start, is_async: bool) -> Any:
    """The context that the function of an agent is given."""
    context: Any = object.__new__(_RemoteContext if is_async else _RemoteBlockingContext)
    vars(context).update(
        _calls=calls,
        _call=calls.call if is_async else calls.call_blocking,
        _deadline=start.deadline,
        _ends_at=None if start.seconds_left is None else time.monotonic() + start.seconds_left,
        task=start.task,
        session=start.session,
        files=tuple(
            File(*file, partial(calls.call_blocking, f"files.{number}.read", (), {}))
            for number, file in enumerate(start.files)
        ),
    )
    return context
