"""How `runyard dev` and its workers talk: messages over a socket pair, each a line of JSON with its `kind`.

A worker imports Runyard's own modules and waits for `load`; it reports that it begins, imports the agents, reports them
and waits for `serve`; from then on it claims runs and reports their events. It reports the runs that no worker has the
code for as it begins to serve, and at `check`. With `leave` it claims nothing more, and
ends once its runs have ended. Where the launcher's end of the socket closes, a worker that does not serve yet ends.
"""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator
from typing import Any, Final

#: Names the worker's end of the socket. It is no setting: an author gives none of it.
DEVELOPMENT_FD: Final = "DEVELOPMENT_FD"

# To a worker.
PREPARE, LOAD, SERVE, LEAVE, CHECK = "prepare", "load", "serve", "leave", "check"
# From it.
LOADING, LOADED, SERVES, LEAVES, OUTPUT, EVENT = "loading", "loaded", "serves", "leaves", "output", "event"
WITHOUT_CODE = "without_code"

_PIECE: Final = 65_536

Message = dict[str, Any]


class Connection:
    """One end of the socket. A thread may send while another receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def of_environment(cls) -> Connection | None:
        """The end that this process was started with; no process that it starts gets it."""
        descriptor = os.environ.pop(DEVELOPMENT_FD, "")
        if not descriptor.isdecimal():
            return None
        os.set_inheritable(int(descriptor), False)
        return cls(socket.socket(fileno=int(descriptor)))

    def send(self, kind: str, **fields: Any) -> bool:
        """Send a message, and wait until it is taken; False where the other end is closed."""
        try:
            self._end.sendall(json.dumps({"kind": kind, **fields}, default=str).encode() + b"\n")
        except OSError:
            return False
        return True

    def received(self) -> Iterator[Message]:
        """The messages of the other end, as they come, until it is closed."""
        rest = b""
        while piece := self._piece():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield json.loads(line)

    def waits(self) -> bool:
        """Whether something has come that `received` would give now; the bytes of a message, at least."""
        return bool(select.select([self._end], [], [], 0)[0])

    def close(self) -> None:
        """Close this end; a thread that receives from it goes on with the end of the messages."""
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end has gone
        self._end.close()

    def _piece(self) -> bytes:
        try:
            return self._end.recv(_PIECE)
        except OSError:
            return b""
