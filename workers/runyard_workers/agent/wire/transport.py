"""A transport whose answers pass through rules first: whole ones as JSON, streams event by event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import httpx2

from runyard_common.outbound.errors import ResponseTooLarge
from runyard_common.outbound.unpacking import ENCODINGS, pieces
from runyard_workers.isolation.threads import in_reader_thread

#: Longest answer, and longest event of a stream, that is given to a library, in bytes; a setting gives the bound.
MOST_BYTES: Final = 16 * 2**20
#: How many times longer a whole stream may be: each word of it comes in an event of its own.
_STREAM_SHARE: Final = 4
#: Most values of one JSON answer or event. Commas in its texts count, too.
MOST_VALUES: Final = 500_000
_MOST_LINES: Final = 100_000
#: Answers of up to so many bytes are judged at once, on the event loop.
_QUICK_BYTES: Final = 65_536
_STREAM: Final = "text/event-stream"
_CHANGED: Final = ("content-encoding", "content-length", "transfer-encoding")

#: Rewrites the data of one event; None leaves the event out.
Rewrite = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece. `cut`: it was longer than may be read."""

    status: int
    headers: httpx2.Headers
    body: bytes
    cut: bool = False

    @property
    def type(self) -> str:
        """Its media type, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def with_body(self, body: bytes, status: int | None = None, type_: str = "application/json") -> Whole:
        """The same answer with another body of this media type."""
        headers = httpx2.Headers(
            [(k, v) for k, v in self.headers.multi_items() if k.lower() != "content-type"]
        )
        headers["content-type"] = type_
        return replace(self, status=status or self.status, headers=headers, body=body)


class Rules(Protocol):
    """What is checked about the answers of one kind of service."""

    def whole(self, request: httpx2.Request, answer: Whole) -> Whole:
        """The answer as the library gets it."""
        ...

    def events(self, request: httpx2.Request) -> Rewrite:
        """What rewrites the events of one stream, in their order."""
        ...


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Sends requests by `inner` and passes each answer through the rules.

    `most_bytes` bounds each answer and each event; the stream as a whole is bounded by `inner`, if at all.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, rules: Rules, most_bytes: int = MOST_BYTES) -> None:
        self._inner = inner
        self._rules = rules
        self._most_bytes = most_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One call; what the connection raises is raised."""
        response = await self._inner.handle_async_request(request)
        response.request = request
        return await _checked(response, self._rules, self._most_bytes, None)

    async def aclose(self) -> None:
        await self._inner.aclose()


class CheckedClient(httpx2.AsyncClient):
    """A client whose answers pass through the rules, whichever of its transports or proxies they come by.

    `most_bytes` bounds each answer and each event, unpacked; a whole stream may be four times as long.
    """

    def __init__(self, rules: Rules, most_bytes: int = MOST_BYTES, **options: Any) -> None:
        super().__init__(**options)
        self._rules = rules
        self._most_bytes = most_bytes
        self.headers["accept-encoding"] = ENCODINGS  # no others can be unpacked within bounds

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """As the client's own."""
        response = await super().send(request, stream=True, **options)
        most = self._most_bytes
        checked = await _checked(response, self._rules, most, _STREAM_SHARE * most)
        checked.request, checked.history = response.request, response.history
        if not stream:
            await checked.aread()
        return checked


def check_values(data: bytes, most: int = MOST_VALUES) -> None:
    """Refuse JSON of very many values: `ResponseTooLarge`. Empty lists take 3 bytes as text, and 20 times that here."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > most:
        raise ResponseTooLarge(len(data), f"The answer holds more than {most:,} values.")


async def _checked(
    response: httpx2.Response, rules: Rules, most_bytes: int, most_of_stream: int | None
) -> httpx2.Response:
    request = response.request
    if response.is_success and response.headers.get("content-type", "").lower().startswith(_STREAM):
        splitter = Splitter(rules.events(request), most_bytes)
        return _response(response, response.headers, stream=_Events(response, splitter, most_of_stream))
    try:
        body, cut = await _read(response, most_bytes)
    finally:
        await response.aclose()
    whole = Whole(response.status_code, response.headers, body, cut)
    # Reading megabytes of JSON takes long, and every run of the process waits for the loop.
    in_thread = len(body) > _QUICK_BYTES
    answer = await in_reader_thread(rules.whole, request, whole) if in_thread else rules.whole(request, whole)
    return _response(response, answer.headers, status=answer.status, content=answer.body)


def _response(
    response: httpx2.Response,
    headers: httpx2.Headers,
    *,
    status: int | None = None,
    content: bytes | None = None,
    stream: httpx2.AsyncByteStream | None = None,
) -> httpx2.Response:
    """The answer under the headers that are still true of it: it is unpacked."""
    kept = [(name, value) for name, value in headers.multi_items() if name.lower() not in _CHANGED]
    return httpx2.Response(
        status or response.status_code,
        headers=kept,
        content=content,
        stream=stream,
        extensions=response.extensions,
    )


async def _read(response: httpx2.Response, most_bytes: int) -> tuple[bytes, bool]:
    body = bytearray()
    async with aclosing(pieces(response)) as parts:
        async for piece in parts:
            body += piece
            if len(body) > most_bytes:
                return bytes(body[:most_bytes]), True
    return bytes(body), False


class _Events(httpx2.AsyncByteStream):
    """The events of a response, each rewritten as it ends."""

    def __init__(self, response: httpx2.Response, splitter: Splitter, most_bytes: int | None) -> None:
        self._response = response
        self._splitter = splitter
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async with aclosing(pieces(self._response)) as parts:
            async for piece in parts:
                read += len(piece)
                if self._most_bytes is not None and read > self._most_bytes:
                    raise ResponseTooLarge(self._most_bytes)
                if rewritten := self._splitter.feed(piece):
                    yield rewritten
        if rest := self._splitter.rest():
            yield rest

    async def aclose(self) -> None:
        await self._response.aclose()


class Splitter:
    """Server-sent events cut out of a stream of bytes, each of at most `most_bytes`. Lines end with LF or CRLF."""

    def __init__(self, rewrite: Rewrite, most_bytes: int = MOST_BYTES) -> None:
        self._rewrite = rewrite
        self._most_bytes = most_bytes
        self._line = bytearray()
        self._fields: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> bytes:
        """What can be passed on after this piece."""
        self._size += len(piece)
        *lines, rest = piece.split(b"\n")
        out = bytearray()
        for line in lines:
            out += self._end_line(bytes(self._line) + line)
            self._line.clear()
        self._line += rest
        if self._size > self._most_bytes or len(self._fields) + len(self._data) > _MOST_LINES:
            raise ResponseTooLarge(self._most_bytes)
        return bytes(out)

    def rest(self) -> bytes:
        """What remains at the end of the stream; an event without its blank line counts too."""
        out = self._end_line(bytes(self._line)) if self._line else b""
        return out + self._end_event()

    def _end_line(self, line: bytes) -> bytes:
        line = line.removesuffix(b"\r")
        if not line:
            return self._end_event()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        else:
            self._fields.append(line)
        return b""

    def _end_event(self) -> bytes:
        fields, data = self._fields, self._data
        self._fields, self._data, self._size = [], [], 0
        if not fields and not data:
            return b""
        rewritten: bytes | None = b"\n".join(data)
        if data and rewritten:
            rewritten = self._rewrite(rewritten)
            if rewritten is None:
                return b""
        lines = [*fields, *(b"data: " + line for line in (rewritten or b"").split(b"\n"))] if data else fields
        return b"\n".join(lines) + b"\n\n"
