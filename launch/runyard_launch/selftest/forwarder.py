"""A TCP forwarder that can be cut, between the workers of the selftest and the broker."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Final

_CONNECT_SECONDS: Final = 3.0
_PIECE: Final = 65_536


class Forwarder:
    """Forwards connections to `target` from a port of its own on loopback, until it is cut. Close it last."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut = False
        self._closed = False
        self._restored_at = 0.0
        self.connected = 0  # connections that reached the target
        self.reconnected_s: float | None = None  # from the last restoring until the first of them
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="forwarder", daemon=True).start()

    def cut(self) -> int:
        """Reset every connection, and new ones at once; how many there were."""
        with self._lock:
            self._cut = True
            ends = list(self._open)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def restore(self) -> None:
        """Forward again."""
        with self._lock:
            self._cut, self._restored_at, self.reconnected_s = False, time.monotonic(), None

    def close(self) -> None:
        """Forward nothing any more."""
        self._closed = True
        self.cut()
        # A shutdown wakes the thread that accepts; a close alone would not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="forwarded", daemon=True).start()

    def _is_cut(self) -> bool:
        return self._cut

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self._is_cut():
                return
            try:
                server = socket.create_connection(self._target, _CONNECT_SECONDS)
            except OSError:
                return
            with server:
                server.settimeout(None)
                with self._lock:
                    if self._is_cut():  # meanwhile
                        return
                    self._open |= {client, server}
                    self.connected += 1
                    if self._restored_at and self.reconnected_s is None:
                        self.reconnected_s = time.monotonic() - self._restored_at
                try:
                    _forward(client, server)
                finally:
                    with self._lock:
                        self._open -= {client, server}


def _forward(one: socket.socket, other: socket.socket) -> None:
    """Until either side ends."""
    with selectors.DefaultSelector() as selector, suppress(OSError):
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                piece = key.fileobj.recv(_PIECE)  # type: ignore[union-attr]
                if not piece:
                    return
                key.data.sendall(piece)
