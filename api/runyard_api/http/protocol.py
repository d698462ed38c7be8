"""The HTTP protocol of the fast parser, with bounds that it has not: on the head of a request, on the time a caller
takes to send it, and on the number of connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from runyard_api.http.errors import LONGEST_HEAD

#: A caller has so long for the head of a request, in seconds, from its connection or from the head's first byte.
PATIENCE: Final = 10.0
#: An answer that waits for its reader is looked at so often, in seconds, and has to have lost so many bytes.
UNREAD_SECONDS: Final = 30.0
LEAST_READ: Final = 30 * 1024
#: What a caller still sends after its last answer is read and thrown away, so that the answer is not lost with the
#: connection (RFC 9112, section 9.6): for so long, with no longer pause, both in seconds, and so many bytes.
LINGER_SECONDS: Final = 30.0
LINGER_PAUSE: Final = 2.0
LINGER_BYTES: Final = 64 * 2**20

_TOO_LARGE: Final = b"The request's headers are too large."
_ANSWER: Final = (
    b"HTTP/1.1 %d %b\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n%b"
)
_PROBLEM: Final = (
    b'{"type":"%b/docs#error-%b","title":"%b","status":%d,"detail":"%b","error":"%b","code":"%b"}'
)


class HeadWithBody:
    """The transport as the answer of one request has it: its head goes out with what is written next.

    uvicorn writes the head and the body apart, each of which costs a system call. What nothing follows within the
    loop's step, as with a stream that waits for its first event, goes out alone.
    """

    __slots__ = ("_end", "_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        """`end` closes the connection."""
        self._transport, self._end = transport, end
        self._head: bytes | None = b""  # empty before the first write, None once it has gone out
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Write; the first piece with the second."""
        if self._head is None:
            self._transport.write(data)
        elif self._head:
            head, self._head = self._head, None
            self._transport.write(head + data)
        else:
            self._head = data
            asyncio.get_running_loop().call_soon(self.flush)

    def close(self) -> None:
        """Close the connection once all is written."""
        self.flush()
        self._end()

    def flush(self) -> None:
        """Send a head that waits, unless its reader has gone meanwhile."""
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
            self._head = None


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come to an end of its headers, and one too many.

    A head that ends within its last read is measured by the application (`runyard_api.app`), for every parser alike.
    """

    prefix = b""
    most_connections = 1_000_000
    patience = PATIENCE
    unread_seconds = UNREAD_SECONDS
    linger_seconds = LINGER_SECONDS
    url = b""
    _lingering = False
    _in_head = True
    _head_bytes = 0
    _next_head = False
    _clock: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._answering: deque[RequestResponseCycle] = deque()
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._refuse(503, b"too_many_connections", b"This server has no connection to spare.")
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self._stop_unread()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._lingering:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.transport.close()
            return
        before, self._next_head = self._in_head, False
        super().data_received(data)
        if before and self._in_head and not self._next_head:
            self._head_bytes += len(data)
            if self._clock is None:
                self._wait_for_head()
            if self._head_bytes > LONGEST_HEAD:
                self._refuse(431, b"headers_too_large", _TOO_LARGE)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # it raises for a path that it cannot read: that is still in the head
        self._in_head = False
        self._head_bytes = 0
        self._stop_clock()
        self.cycle.transport = cast(asyncio.Transport, HeadWithBody(self.transport, self._end))
        self._answering.append(self.cycle)

    def on_message_complete(self) -> None:
        """The request has come; the next bytes are another's head."""
        self._in_head = True
        self._next_head = True
        self._stop_clock()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._wait_for_head()  # it was answered before its body had come: no other clock runs

    def on_response_complete(self) -> None:
        """The answer is written. A body that still arrives is not read, and has as long as a head."""
        cast(HeadWithBody, self._answering.popleft().transport).flush()  # one without a body
        if self._lingering:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if not self._in_head and not self.transport.is_closing():
            self._stop_clock()
            self._clock = self.loop.call_later(self.patience, self.transport.close)

    def pause_writing(self) -> None:
        """The caller does not take what was written for it."""
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        self._stop_unread()
        super().resume_writing()

    def _look_again(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self.unread_seconds, self._end_unless_read, waiting)

    def _end_unless_read(self, before: int) -> None:
        if self.transport.get_write_buffer_size() > before - LEAST_READ:
            self._unread = None
            self._give_up_answers()
            self.transport.abort()
        else:
            self._look_again()

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait_for_head(self) -> None:
        self._clock = self.loop.call_later(self.patience, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._clock = None
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._wait_for_head()  # the request before it is still being answered
        elif self._head_bytes:
            self._refuse(408, b"request_timeout", b"The request's head did not arrive in time.")
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """The parser cannot read on: answer in the form of this API's errors."""
        if len(self.url) >= LONGEST_HEAD:  # the parser reads no such path
            self._refuse(431, b"headers_too_large", _TOO_LARGE)
        else:
            self._refuse(400, b"invalid_request", b"The request is not valid HTTP/1.1.")

    def _may_refuse(self) -> bool:
        """Whether an answer from here would be taken for that of the request which is being read."""
        if self._in_head:
            return not self._answering
        return len(self._answering) == 1 and not self.cycle.response_started

    def _give_up_answers(self) -> None:
        self.pipeline.clear()
        for answering in self._answering:
            answering.disconnected = True  # its answers are not sent
            answering.message_event.set()

    def shutdown(self) -> None:
        """The server stops: see `HttpToolsProtocol.shutdown`."""
        if self._lingering:
            self.transport.close()
        super().shutdown()

    def _end(self) -> None:
        """Close after an answer, once the body has come that its caller may still be sending."""
        if self._in_head or self.transport.is_closing():
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Send no more, and throw away what comes, until the caller closes: to close before would reset the
        connection, and with it the answer. It counts among the connections meanwhile."""
        self._lingering = True
        self._discarded, self._seen = 0, -1
        self._linger_until = self.loop.time() + self.linger_seconds
        self.pipeline.clear()
        self._stop_clock()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger_on()

    def _linger_on(self) -> None:
        left = self._linger_until - self.loop.time()
        if self._discarded == self._seen or left <= 0:
            self.transport.close()
            return
        self._seen = self._discarded
        self._clock = self.loop.call_later(min(LINGER_PAUSE, left), self._linger_on)

    def _refuse(self, status: int, code: bytes, detail: bytes) -> None:
        """Answer from here, where no application is, and close."""
        if self.transport.is_closing():
            return
        may_refuse = self._may_refuse()
        self._give_up_answers()
        if not may_refuse:
            self.transport.close()
            return
        title = _TITLES[status]
        problem = _PROBLEM % (self.prefix, code, title, status, detail, detail, code)
        more = b"retry-after: 1\r\n" if status == 503 else b""
        self.transport.write(_ANSWER % (status, title, len(problem), more, problem))
        if status in (400, 431):
            self._linger()
        else:
            self.transport.close()


_TITLES: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
