"""The calls of a context whose types follow from what they are given: `step`, `ask`,
`review`, `run`, `start` and `map`.

A keyword of ours cannot be added to those of a `ParamSpec` (PEP 612). So with `effect`, arguments by position are
checked against the function, or those by name are not; `functools.partial` checks both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from runyard.errors import ChildFailed
from runyard.run_options import ChildOptions

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
T = TypeVar("T")
A = TypeVar("A")

Effect = Literal["read", "idempotent", "irreversible"]
OnNoAnswer = Literal["fail", "default"]
OnNoDecision = Literal["fail", "reject"]
#: One question, or several that are asked together {key, text, schema?, options?}.
Asking = str | Sequence[Mapping[str, Any]]


class AwaitedCalls(ABC):
    """What a `Context` has."""

    @overload
    @abstractmethod
    async def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        returns: type[T],
        effect: Effect = ...,
        **kwargs: Any,
    ) -> T: ...
    @overload
    @abstractmethod
    async def step(
        self, name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    @abstractmethod
    async def step(self, name: str, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    @abstractmethod
    async def step(self, name: str, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, effect: Effect) -> T: ...
    @overload
    @abstractmethod
    async def step(self, name: str, fn: Callable[[*Ts], T], *args: *Ts, effect: Effect) -> T: ...
    @overload
    @abstractmethod
    async def step(  # type: ignore[overload-cannot-match]
        self, name: str, fn: Callable[..., Awaitable[T]], *, effect: Effect, **kwargs: Any
    ) -> T: ...
    @overload
    @abstractmethod
    async def step(self, name: str, fn: Callable[..., T], *, effect: Effect, **kwargs: Any) -> T: ...  # type: ignore[overload-cannot-match]
    @abstractmethod  # type: ignore[misc] # mypy compares no ParamSpec with what accepts all
    async def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        effect: Effect = "idempotent",
        returns: Any = ...,
        **kwargs: Any,
    ) -> Any:
        """Run `fn(*args, **kwargs)` once across crashes and return its result.

        The result is kept in its JSON form, and is made again from that by the function's return annotation, or by
        `returns`, in a replay as in the first attempt; without either it is the JSON form. `effect` decides what a
        crash in the middle means: ``read`` and ``idempotent`` steps are run again, an ``irreversible`` one waits for
        an operator's decision. Plain functions run in a thread.

        Raises `AgentError` invalid_result for a result that is none of that type; it counts as done.
        """

    @abstractmethod
    async def on_failure(self, name: str, fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Register `fn(*args, **kwargs)` as what undoes something, should the run fail, be cancelled or time out.

        Then what is registered runs before the run ends, the last first, each as a step that ends once; `fn` may run
        again after a crash in the middle. It may be ``async def``, and may make steps; it cannot wait for others.
        Call it outside of steps: before what it undoes where that may take effect unseen, else after.
        """

    @overload
    @abstractmethod
    async def ask(
        self,
        question: str,
        *,
        schema: type[T],
        options: Sequence[Any] | None = ...,
        timeout: float | None = ...,
        on_timeout: OnNoAnswer | None = ...,
        default: None,
        key: str | None = ...,
    ) -> T | None: ...
    @overload
    @abstractmethod
    async def ask(
        self,
        question: str,
        *,
        schema: type[T],
        options: Sequence[Any] | None = ...,
        timeout: float | None = ...,
        on_timeout: OnNoAnswer | None = ...,
        default: Any = ...,
        key: str | None = ...,
    ) -> T: ...
    @overload
    @abstractmethod
    async def ask(
        self,
        question: str,
        *,
        returns: type[T],
        schema: Mapping[str, Any] | None = ...,
        options: Sequence[Any] | None = ...,
        timeout: float | None = ...,
        on_timeout: OnNoAnswer | None = ...,
        default: None,
        key: str | None = ...,
    ) -> T | None: ...
    @overload
    @abstractmethod
    async def ask(
        self,
        question: str,
        *,
        returns: type[T],
        schema: Mapping[str, Any] | None = ...,
        options: Sequence[Any] | None = ...,
        timeout: float | None = ...,
        on_timeout: OnNoAnswer | None = ...,
        default: Any = ...,
        key: str | None = ...,
    ) -> T: ...
    @overload
    @abstractmethod
    async def ask(
        self,
        question: Asking,
        *,
        schema: Mapping[str, Any] | None = ...,
        options: Sequence[Any] | None = ...,
        timeout: float | None = ...,
        on_timeout: OnNoAnswer | None = ...,
        default: Any = ...,
        key: str | None = ...,
    ) -> Any: ...
    @abstractmethod
    async def ask(
        self,
        question: Asking,
        *,
        schema: Any = None,
        returns: Any = ...,
        options: Sequence[Any] | None = None,
        timeout: float | None = None,
        on_timeout: OnNoAnswer | None = None,
        default: Any = ...,
        key: str | None = None,
    ) -> Any:
        """Ask the user and wait, holding nothing (`waiting_for_input`); returns the answer.

        Several questions ([{key, text, schema?, options?}]) return an object by key. `schema` checks the answer: a
        JSON Schema, or a type, of which the answer then is; `returns` is that type beside a schema of your own. After
        `timeout` seconds the run goes on with `default` if one is given, and else fails. The answer is found again
        by the order of the calls, or by `key`, unique within the run, where that order may differ.
        """

    @overload
    @abstractmethod
    async def review(
        self,
        action: str,
        arguments: Any = ...,
        *,
        schema: type[T],
        timeout: float | None = ...,
        on_timeout: OnNoDecision = ...,
        key: str | None = ...,
    ) -> T: ...
    @overload
    @abstractmethod
    async def review(
        self,
        action: str,
        arguments: Any = ...,
        *,
        schema: Mapping[str, Any] | None = ...,
        timeout: float | None = ...,
        on_timeout: OnNoDecision = ...,
        key: str | None = ...,
    ) -> Any: ...
    @abstractmethod
    async def review(
        self,
        action: str,
        arguments: Any = None,
        *,
        schema: Any = None,
        timeout: float | None = None,
        on_timeout: OnNoDecision = "fail",
        key: str | None = None,
    ) -> Any:
        """Let a person approve `action` (`awaiting_review`); returns the arguments, edited if they edited them.

        `schema` checks them: a JSON Schema, or a type, of which they then are. Raises `Rejected` with the reason when
        they reject it, and with ``on_timeout="reject"`` after `timeout` seconds.
        """

    @overload
    @abstractmethod
    async def run(
        self,
        agent: str | Callable[..., Any],
        args: Any = ...,
        *,
        returns: type[T],
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> T: ...
    @overload
    @abstractmethod
    async def run(
        self,
        agent: Callable[[Any, A], Awaitable[T]],
        args: A,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> T: ...
    @overload
    @abstractmethod
    async def run(
        self,
        agent: Callable[[Any, A], T],
        args: A,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> T: ...
    @overload
    @abstractmethod
    async def run(
        self,
        agent: str,
        args: Any = ...,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> Any: ...
    @abstractmethod
    async def run(
        self,
        agent: Any,
        args: Any = None,
        *,
        returns: Any = ...,
        message: str | None = None,
        **options: Any,
    ) -> Any:
        """Run another agent as a child task and return its output; the parent holds no slot meanwhile.

        `agent` is a name, or the decorated function, whose types then count. Without a type, from its annotation or
        `returns`, the output is in JSON form. Raises `ChildFailed` when the child fails or is stopped.
        """

    @overload
    @abstractmethod
    async def start(
        self,
        agent: Callable[[Any, A], Any],
        args: A,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> str: ...
    @overload
    @abstractmethod
    async def start(
        self,
        agent: str,
        args: Any = ...,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> str: ...
    @abstractmethod
    async def start(self, agent: Any, args: Any = None, *, message: str | None = None, **options: Any) -> str:
        """Start another agent as a child task and go on; its task id. It is stopped if this run fails or is.

        `agent` is a name, or the decorated function, whose type of arguments then counts.
        """

    @overload
    @abstractmethod
    async def map(
        self,
        agent: str | Callable[..., Any],
        args: Iterable[Any],
        *,
        returns: type[T],
        concurrency: int = ...,
        return_exceptions: Literal[False] = ...,
        **options: Unpack[ChildOptions],
    ) -> list[T]: ...
    @overload
    @abstractmethod
    async def map(
        self,
        agent: str | Callable[..., Any],
        args: Iterable[Any],
        *,
        returns: type[T],
        concurrency: int = ...,
        return_exceptions: bool,
        **options: Unpack[ChildOptions],
    ) -> list[T | ChildFailed]: ...
    @overload
    @abstractmethod
    async def map(
        self,
        agent: Callable[[Any, A], Awaitable[T]],
        args: Iterable[A],
        *,
        concurrency: int = ...,
        return_exceptions: Literal[False] = ...,
        **options: Unpack[ChildOptions],
    ) -> list[T]: ...
    @overload
    @abstractmethod
    async def map(
        self,
        agent: Callable[[Any, A], Awaitable[T]],
        args: Iterable[A],
        *,
        concurrency: int = ...,
        return_exceptions: bool,
        **options: Unpack[ChildOptions],
    ) -> list[T | ChildFailed]: ...
    @overload
    @abstractmethod
    async def map(
        self,
        agent: Callable[[Any, A], T],
        args: Iterable[A],
        *,
        concurrency: int = ...,
        return_exceptions: Literal[False] = ...,
        **options: Unpack[ChildOptions],
    ) -> list[T]: ...
    @overload
    @abstractmethod
    async def map(
        self,
        agent: Callable[[Any, A], T],
        args: Iterable[A],
        *,
        concurrency: int = ...,
        return_exceptions: bool,
        **options: Unpack[ChildOptions],
    ) -> list[T | ChildFailed]: ...
    @overload
    @abstractmethod
    async def map(
        self,
        agent: str,
        args: Iterable[Any],
        *,
        concurrency: int = ...,
        return_exceptions: bool = ...,
        **options: Unpack[ChildOptions],
    ) -> list[Any]: ...
    @abstractmethod
    async def map(
        self,
        agent: Any,
        args: Iterable[Any],
        *,
        returns: Any = ...,
        concurrency: int = 10,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[Any]:
        """Run another agent once for each of `args` and return the outputs in order, at most 10,000.

        `agent` and `returns` are as in `run`. At most `concurrency` children are at work at once, one more as each
        ends; the parent holds no slot meanwhile. The first that fails stops the others and raises `ChildFailed`; with
        `return_exceptions` all run, and the `ChildFailed`s are among the results.
        """
