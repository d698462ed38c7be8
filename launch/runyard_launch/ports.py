"""Free and taken TCP ports."""

from __future__ import annotations

import socket


def listening_socket(host: str, port: int = 0) -> socket.socket:
    """A bound, listening TCP socket; port 0 takes a free one. OSError if the address is taken or not ours."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


def free_port(host: str = "127.0.0.1") -> int:
    """A port nothing listens on just now, for a program that has to be told its port."""
    with listening_socket(host) as listener:
        return int(listener.getsockname()[1])
