"""Answers within bounds for libraries that read them whole: counted in bytes, unpacked, and over in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Final, TypeVar

import httpx2

from runyard_common.outbound.errors import AttemptTimedOut, ResponseTooLarge
from runyard_common.outbound.unpacking import pieces

_CHANGED: Final = ("content-encoding", "content-length", "transfer-encoding")
_STREAM: Final = "text/event-stream"
T = TypeVar("T")


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Sends by `inner`; an answer is at most `max_bytes` long once unpacked, and over within `seconds`.

    A stream that the server holds open (GET) has neither bound as a whole: who reads it bounds its events.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, max_bytes: int, seconds: float | None) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One call. Raises `ResponseTooLarge` and `AttemptTimedOut`, here or while the body is read."""
        request.headers["accept-encoding"] = "identity"
        clock = _Clock(self._seconds)
        response = await clock.within(self._inner.handle_async_request(request))
        open_ended = request.method == "GET" and response.headers.get("content-type", "").startswith(_STREAM)
        body = _Body(response, None if open_ended else self._max_bytes, _Clock(None) if open_ended else clock)
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _CHANGED]
        return httpx2.Response(
            response.status_code, headers=headers, stream=body, extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Clock:
    """The time that is left of a call."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds

    async def within(self, work: Awaitable[T]) -> T:
        """The result of `work`, if it comes in time."""
        left = None if self._ends is None else max(0.0, self._ends - time.monotonic())
        try:
            async with asyncio.timeout(left):
                return await work
        except TimeoutError:
            raise AttemptTimedOut(f"The call took longer than {self._seconds:g} s in all.") from None


class _Body(httpx2.AsyncByteStream):
    """A body that is counted while it is read."""

    def __init__(self, response: httpx2.Response, max_bytes: int | None, clock: _Clock) -> None:
        self._response = response
        self._max_bytes = max_bytes
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async with aclosing(pieces(self._response)) as parts:
            while (piece := await self._clock.within(anext(parts, None))) is not None:
                read += len(piece)
                if self._max_bytes is not None and read > self._max_bytes:
                    raise ResponseTooLarge(self._max_bytes)
                yield piece

    async def aclose(self) -> None:
        await self._response.aclose()
