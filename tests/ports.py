"""Ports for processes that take theirs as an argument, outside of those that the system gives away by itself.

A port of the system's own range may go to another test, or to the near end of any connection, before the process
listens on it, or while the process is stopped and started again.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST, _HIGHEST = 12_000, 32_000
_chosen = random.Random(
    f"{random.SystemRandom().random()}"
)  # of this process's own: tests seed the common one


def free_port() -> int:
    """A port on loopback that had no listener a moment ago. It is one of twenty thousand, and no client's."""
    while True:
        port = _chosen.randrange(_LOWEST, min(_HIGHEST, _system_range()))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _system_range() -> int:
    """The lowest port that the system gives away."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return _HIGHEST
    return lowest if lowest > _LOWEST + 1000 else _HIGHEST
