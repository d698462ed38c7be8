"""Servers that send more than anybody asked for, and count how much of it was taken.

with Flood(http(...)) as server:
    ... server.port ... server.sent ...
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

Sender = Callable[[socket.socket], Iterator[bytes]]
#: More than any bound of a test, and what the system's buffers may take of it besides.
MOST = 64 * 2**20
BUFFERS = 12 * 2**20
PIECE = b" " * 65_536


class Flood:
    """One server on loopback. `send` speaks the protocol and yields what is counted; `sent` are those bytes."""

    def __init__(self, send: Sender) -> None:
        self._send = send
        self.sent = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(50)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._answer, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError, struct.error):
            connection.settimeout(20)
            for piece in self._send(connection):
                connection.sendall(piece)
                self.sent += len(piece)


def http(head: str, body: Callable[[], Iterator[bytes]]) -> Sender:
    """Answers every request with these header lines and this body."""

    def send(connection: socket.socket) -> Iterator[bytes]:
        read(connection, b"\r\n\r\n")
        connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\n{head}\r\n\r\n".encode())
        yield from body()

    return send


def endless() -> Iterator[bytes]:
    """Spaces, which JSON may begin with."""
    for _ in range(MOST // len(PIECE)):
        yield PIECE


def mysql(connection: socket.socket) -> Iterator[bytes]:
    """A MySQL server whose first row never ends."""
    _greet_mysql(connection)
    for sequence, payload in enumerate((b"\x01", _COLUMN, b"\xfe\0\0\x02\0"), 1):
        _packet(connection, sequence, payload)
    sequence = 4
    for _ in range(MOST // 0xFFFFFF + 1):
        yield b"\xff\xff\xff" + bytes([sequence % 256])
        yield b"\xfe" + struct.pack("<Q", MOST)
        yield from [PIECE] * (0xFFFFFF // len(PIECE))
        yield bytes(0xFFFFFF % len(PIECE) - 9)
        sequence += 1


def many_columns(connection: socket.socket) -> Iterator[bytes]:
    """A MySQL server whose result has columns without end."""
    _greet_mysql(connection)
    _packet(connection, 1, b"\xfe" + struct.pack("<Q", 2**40))
    for number in range(2, 10**6):
        yield struct.pack("<I", len(_COLUMN))[:3] + bytes([number % 256]) + _COLUMN


def postgres(connection: socket.socket) -> Iterator[bytes]:
    """A PostgreSQL server that answers every question with one endless row."""
    while True:
        (length,) = struct.unpack("!I", _exactly(connection, 4))
        (code,) = struct.unpack("!I", _exactly(connection, length - 4)[:4])
        if code == 196_608:
            break
        connection.sendall(b"N")  # no TLS, no GSS
    connection.sendall(b"R" + struct.pack("!II", 8, 0) + b"Z" + struct.pack("!I", 5) + b"I")
    _exactly(connection, 5)
    description = struct.pack("!H", 1) + b"c\0" + struct.pack("!IHIhiH", 0, 0, 25, -1, -1, 0)
    connection.sendall(b"T" + struct.pack("!I", 4 + len(description)) + description)
    connection.sendall(b"D" + struct.pack("!IHI", 10 + 2**30 - 16, 1, 2**30 - 16))
    yield from endless()


def silent(connection: socket.socket) -> Iterator[bytes]:
    """A server that accepts, and never sends anything."""
    read(connection, b"\0never\0")
    yield b""


def read(connection: socket.socket, end: bytes) -> None:
    """Read until `end` has come."""
    found = b""
    while end not in found:
        piece = connection.recv(65_536)
        if not piece:
            raise EOFError
        found += piece


_OK = b"\0\0\0\x02\0\0\0"


_COLUMN = b"\x03def\0\0\0\x01c\0\x0c" + struct.pack("<HIBHBxx", 45, 1024, 0xFD, 0, 0)


def _greet_mysql(connection: socket.socket) -> None:
    """All that a client wants before its first question."""
    salt = b"12345678" + bytes(1) + struct.pack("<HBHHB10x", 0xF7FF, 45, 2, 0x8008, 21) + b"123456789012\0"
    _packet(connection, 0, b"\x0a8.0.0\0" + struct.pack("<I", 1) + salt + b"mysql_native_password\0")
    number, _ = _packet_in(connection)
    _packet(connection, number + 1, _OK)
    while not _packet_in(connection)[1].startswith(b"\x03SELECT"):
        _packet(connection, 1, _OK)


def _packet(connection: socket.socket, sequence: int, payload: bytes) -> None:
    connection.sendall(struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload)


def _packet_in(connection: socket.socket) -> tuple[int, bytes]:
    head = _exactly(connection, 4)
    return head[3], _exactly(connection, int.from_bytes(head[:3], "little"))


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found
