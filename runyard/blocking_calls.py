"""The calls of `runyard.awaited_calls`, for agents that are plain functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from runyard.awaited_calls import Asking, Effect, OnNoAnswer, OnNoDecision
from runyard.errors import ChildFailed
from runyard.run_options import ChildOptions

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
T = TypeVar("T")
A = TypeVar("A")


class BlockingCalls(ABC):
    """What a `BlockingContext` has."""

    @overload
    @abstractmethod
    def step(
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
    def step(self, name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    @abstractmethod
    def step(self, name: str, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    @abstractmethod
    def step(self, name: str, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, effect: Effect) -> T: ...
    @overload
    @abstractmethod
    def step(self, name: str, fn: Callable[[*Ts], T], *args: *Ts, effect: Effect) -> T: ...
    @overload
    @abstractmethod
    def step(self, name: str, fn: Callable[..., Awaitable[T]], *, effect: Effect, **kwargs: Any) -> T: ...  # type: ignore[overload-cannot-match]
    @overload
    @abstractmethod
    def step(self, name: str, fn: Callable[..., T], *, effect: Effect, **kwargs: Any) -> T: ...  # type: ignore[overload-cannot-match]
    @abstractmethod  # type: ignore[misc] # mypy compares no ParamSpec with what accepts all
    def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        effect: Effect = "idempotent",
        returns: Any = ...,
        **kwargs: Any,
    ) -> Any:
        """See `Context.step`."""

    @abstractmethod
    def on_failure(self, name: str, fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """See `Context.on_failure`."""

    @overload
    @abstractmethod
    def ask(
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
    def ask(
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
    def ask(
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
    def ask(
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
    def ask(
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
    def ask(
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
        """See `Context.ask`."""

    @overload
    @abstractmethod
    def review(
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
    def review(
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
        """See `Context.review`."""

    @overload
    @abstractmethod
    def run(
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
    def run(
        self,
        agent: Callable[[Any, A], Awaitable[T]],
        args: A,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> T: ...
    @overload
    @abstractmethod
    def run(
        self,
        agent: Callable[[Any, A], T],
        args: A,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> T: ...
    @overload
    @abstractmethod
    def run(
        self,
        agent: str,
        args: Any = ...,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> Any: ...
    @abstractmethod
    def run(
        self,
        agent: Any,
        args: Any = None,
        *,
        returns: Any = ...,
        message: str | None = None,
        **options: Any,
    ) -> Any:
        """See `Context.run`."""

    @overload
    @abstractmethod
    def start(
        self,
        agent: Callable[[Any, A], Any],
        args: A,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> str: ...
    @overload
    @abstractmethod
    def start(
        self,
        agent: str,
        args: Any = ...,
        *,
        message: str | None = ...,
        **options: Unpack[ChildOptions],
    ) -> str: ...
    @abstractmethod
    def start(self, agent: Any, args: Any = None, *, message: str | None = None, **options: Any) -> str:
        """See `Context.start`."""

    @overload
    @abstractmethod
    def map(
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
    def map(
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
    def map(
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
    def map(
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
    def map(
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
    def map(
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
    def map(
        self,
        agent: str,
        args: Iterable[Any],
        *,
        concurrency: int = ...,
        return_exceptions: bool = ...,
        **options: Unpack[ChildOptions],
    ) -> list[Any]: ...
    @abstractmethod
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
        """See `Context.map`."""
