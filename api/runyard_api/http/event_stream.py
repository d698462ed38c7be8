"""The answer that is a stream of Server-Sent Events: one task and one timer for each client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from runyard_api import metrics

log = structlog.get_logger()

#: A comment after so many seconds of silence keeps proxies from closing the stream.
KEEP_ALIVE: Final[float] = 15.0
#: A reader that takes no bytes for so many seconds is dropped; it may resume.
SLOWEST: Final = 20.0
#: How much later than that a reader may be dropped, in seconds: one timer a client looks so often, or sooner where a
#: comment is due, though never at once again.
_LOOK_EVERY: Final[float] = 5.0
_SHORTEST: Final = 0.01
_COMMENT: Final = b": keep-alive\n\n"
_END: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}


class EventStream(Response):
    """Sends frames as they come, each whole, until they end or their reader is gone or too slow."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        counted: Callable[[], AbstractContextManager[None]] = nullcontext,
        unread: Callable[[int], AbstractContextManager[None]] = lambda _bytes: nullcontext(),
        close: Callable[[], object] | None = None,
    ) -> None:
        """`frames` are closed in the end, also in the middle of one. `counted` is entered for as long as it lasts, and
        `unread` for the bytes that its reader is being sent. `close` is called in the end, also where no frame was
        asked for."""
        self._frames = frames
        self._counted = counted
        self._unread = unread
        self._close = close
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI). A reader that is dropped sees a stream that breaks off, and may resume."""
        metrics.STREAMS.inc()
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            with self._counted():
                await self._serve(scope, receive, send)
        finally:
            metrics.STREAMS.dec()
            if self._close is not None:
                self._close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._frames), asyncio.timeout(None) as until:
                if scope["method"] == "HEAD":
                    await send(_END)
                else:
                    await _Reader(send, until, self._unread).serve(self._frames, receive)
        except TimeoutError:
            if not until.expired():
                raise


class _Reader:
    """One client: what it was sent last, and whether it still takes anything."""

    def __init__(
        self, send: Send, until: asyncio.Timeout, unread: Callable[[int], AbstractContextManager[None]]
    ) -> None:
        self._send = send
        self._unread = unread
        self._turn = (
            asyncio.Lock()
        )  # a large message goes out in pieces, and a comment must not come in between
        self._until = until
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()  # when it was sent something, or began to be
        self._sending = False
        self._comment: asyncio.Task[None] | None = None

    async def serve(self, frames: AsyncGenerator[bytes], receive: Receive) -> None:
        """Send what comes; `TimeoutError` by `until` once the reader is gone, or stopped reading."""
        gone = self._loop.create_task(self._listen(receive))
        self._look()
        try:
            async for frame in frames:
                await self._write(_part(frame))
            await self._write(_END)
        finally:
            self._timer.cancel()
            gone.cancel()
            if self._comment is not None:
                self._comment.cancel()

    async def _write(self, message: Message) -> None:
        async with self._turn:
            self._sending, self._sent_at = True, self._loop.time()
            with self._unread(len(message["body"])):
                await self._send(message)
            self._sending = False

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._hang_up()

    def _look(self) -> None:
        silent = self._loop.time() - self._sent_at
        if self._sending and silent > SLOWEST:
            log.info("A reader was too slow and was dropped; it may resume.", action="stream.drop")
            self._hang_up()
            return
        if not self._sending and silent >= KEEP_ALIVE:
            self._comment = self._loop.create_task(self._write(_part(_COMMENT)))
            silent = 0.0
        due = max(_SHORTEST, KEEP_ALIVE - silent)  # a comment comes when it is due, neither sooner nor later
        self._timer = self._loop.call_later(min(_LOOK_EVERY, SLOWEST, due), self._look)

    def _hang_up(self) -> None:
        if not self._until.expired():
            self._until.reschedule(self._loop.time())


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
