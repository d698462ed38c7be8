"""The HTTP protocol of the fast parser, with a bound on the head of a request: the parser itself has none."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.errors import LONGEST_HEAD

_ANSWER: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)
_PROBLEM: Final = (
    b'{"type":"%b/docs#error-headers_too_large","title":"Headers too large","status":431,'
    b'"detail":"The request\'s headers are too large.","error":"The request\'s headers are too large.",'
    b'"code":"headers_too_large"}'
)


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come to an end of its headers.

    A head that ends within its last read is measured by the application (`api.app`), for every parser alike.
    """

    prefix = b""
    _in_head = True
    _head_bytes = 0
    _began_anew = False

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller."""
        before, self._began_anew = self._in_head, False
        super().data_received(data)
        if before and self._in_head and not self._began_anew:
            self._head_bytes += len(data)
            if self._head_bytes > LONGEST_HEAD and not self.transport.is_closing():
                problem = _PROBLEM % self.prefix
                self.transport.write(_ANSWER % (len(problem), problem))
                self.transport.close()

    def on_headers_complete(self) -> None:
        """The head has come."""
        self._in_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has come; the next bytes are another's head."""
        self._in_head = True
        self._began_anew = True
        super().on_message_complete()
