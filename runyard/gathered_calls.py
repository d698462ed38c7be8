"""The types of `gather` in a context: what each of a few calls gives, or what all of many give.

A list comes back. Checkers see a tuple of up to five types, as with `asyncio.gather`: a list has one type for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, overload

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")


class AwaitedGather(ABC):
    """What a `Context` has."""

    @overload
    @abstractmethod
    async def gather(  # type: ignore[overload-overlap]
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2]: ...
    @overload
    @abstractmethod
    async def gather(
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception]: ...
    @overload
    @abstractmethod
    async def gather(  # type: ignore[overload-overlap]
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        third: Awaitable[T3],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2, T3]: ...
    @overload
    @abstractmethod
    async def gather(
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        third: Awaitable[T3],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception]: ...
    @overload
    @abstractmethod
    async def gather(  # type: ignore[overload-overlap]
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        third: Awaitable[T3],
        fourth: Awaitable[T4],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    @abstractmethod
    async def gather(
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        third: Awaitable[T3],
        fourth: Awaitable[T4],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception]: ...
    @overload
    @abstractmethod
    async def gather(  # type: ignore[overload-overlap]
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        third: Awaitable[T3],
        fourth: Awaitable[T4],
        fifth: Awaitable[T5],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2, T3, T4, T5]: ...
    @overload
    @abstractmethod
    async def gather(
        self,
        first: Awaitable[T1],
        second: Awaitable[T2],
        third: Awaitable[T3],
        fourth: Awaitable[T4],
        fifth: Awaitable[T5],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception, T5 | Exception]: ...
    @overload
    @abstractmethod
    async def gather(self, *awaitables: Awaitable[T], return_exceptions: Literal[False] = ...) -> list[T]: ...
    @overload
    @abstractmethod
    async def gather(self, *awaitables: Awaitable[T], return_exceptions: bool) -> list[T | Exception]: ...
    @abstractmethod
    async def gather(self, *awaitables: Awaitable[Any], return_exceptions: bool = False) -> Any:
        """Make several calls at once, such as ``ctx.step(…)`` and ``ctx.run(…)``, and return what each gives, in order.

        The result is a list. The run waits for all of them together, with one wake-up. Where one fails, the others end
        the step they are in, and that failure is raised. With `return_exceptions` failures are among the results.
        """


class BlockingGather(ABC):
    """What a `BlockingContext` has."""

    @overload
    @abstractmethod
    def gather(  # type: ignore[overload-overlap]
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2]: ...
    @overload
    @abstractmethod
    def gather(
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception]: ...
    @overload
    @abstractmethod
    def gather(  # type: ignore[overload-overlap]
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        third: Callable[[], T3],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2, T3]: ...
    @overload
    @abstractmethod
    def gather(
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        third: Callable[[], T3],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception]: ...
    @overload
    @abstractmethod
    def gather(  # type: ignore[overload-overlap]
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        third: Callable[[], T3],
        fourth: Callable[[], T4],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    @abstractmethod
    def gather(
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        third: Callable[[], T3],
        fourth: Callable[[], T4],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception]: ...
    @overload
    @abstractmethod
    def gather(  # type: ignore[overload-overlap]
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        third: Callable[[], T3],
        fourth: Callable[[], T4],
        fifth: Callable[[], T5],
        /,
        *,
        return_exceptions: Literal[False] = ...,
    ) -> tuple[T1, T2, T3, T4, T5]: ...
    @overload
    @abstractmethod
    def gather(
        self,
        first: Callable[[], T1],
        second: Callable[[], T2],
        third: Callable[[], T3],
        fourth: Callable[[], T4],
        fifth: Callable[[], T5],
        /,
        *,
        return_exceptions: bool,
    ) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception, T5 | Exception]: ...
    @overload
    @abstractmethod
    def gather(self, *calls: Callable[[], T], return_exceptions: Literal[False] = ...) -> list[T]: ...
    @overload
    @abstractmethod
    def gather(self, *calls: Callable[[], T], return_exceptions: bool) -> list[T | Exception]: ...
    @abstractmethod
    def gather(self, *calls: Callable[[], Any], return_exceptions: bool = False) -> Any:
        """As `Context.gather`, of functions, each in a thread: ``ctx.gather(lambda: ctx.run("a"), …)``."""
