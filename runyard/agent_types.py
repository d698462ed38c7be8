"""What `@agent` takes and gives, for type checkers: a function of ``(ctx, args)`` keeps its type."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar, overload

from runyard.context import BlockingContext, Context

A = TypeVar("A")
O = TypeVar("O")  # noqa: E741 - of `output`
M = TypeVar("M", bound=Mapping[str, Any])
AgentFunction = TypeVar(
    "AgentFunction",
    bound=Callable[[Context, Any], Coroutine[Any, Any, Any]] | Callable[[BlockingContext, Any], Any],
)


class Decorator(Protocol):
    """Registers a function as an agent."""

    def __call__(self, fn: AgentFunction, /) -> AgentFunction:
        """The function itself."""


class OutputDecorator(Protocol[O]):
    """Registers a function that returns an `O`, or an object with its fields."""

    @overload
    def __call__(
        self, fn: Callable[[Context, A], Coroutine[Any, Any, O]], /
    ) -> Callable[[Context, A], Coroutine[Any, Any, O]]: ...
    @overload
    def __call__(
        self, fn: Callable[[Context, A], Coroutine[Any, Any, M]], /
    ) -> Callable[[Context, A], Coroutine[Any, Any, M]]: ...
    @overload
    def __call__(self, fn: Callable[[BlockingContext, A], O], /) -> Callable[[BlockingContext, A], O]: ...
    @overload
    def __call__(self, fn: Callable[[BlockingContext, A], M], /) -> Callable[[BlockingContext, A], M]: ...
