"""What this process may do and what it loads: its limit of file descriptors, the mode of its files, its libraries."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


def descriptor_limit() -> int:
    """Return how many file descriptors this process may have open now (the soft RLIMIT_NOFILE)."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_descriptor_limit() -> None:
    """Raise the limit to the most that the system allows; where the system refuses, it stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass


def notify_ready() -> None:
    """Write a line on the descriptor that the supervisor named in READY_FD (as s6's notification-fd), once.

    systemd is notified, too, where a unit has `Type=notify`.
    """
    with suppress(OSError, ValueError):
        descriptor = int(os.environ.pop("READY_FD", "-1"))
        os.write(descriptor, b"\n")
        os.close(descriptor)
    _notify_systemd("READY=1")


def _notify_systemd(state: str) -> None:
    """Send a datagram to the socket of sd_notify(3). Without systemd, or where it does not listen, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract names begin with a null byte
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.setblocking(False)
        notifications.sendto(state.encode(), address)


class Liveness:
    """Shows that this process works: by the age of a file, and to systemd's watchdog where the unit has one.

    The file's text is `starting` or `ready`; its time is never older than `EVERY` seconds while the process works.
    A database or broker that is away is no reason to end a process, so neither is asked.
    """

    EVERY: Final = 5.0

    def __init__(self, file: str) -> None:
        """`file`: its path; empty for none."""
        self._file = Path(file) if file else None
        self._written = ""

    @property
    def is_watched(self) -> bool:
        """Whether anything looks."""
        return self._file is not None or "NOTIFY_SOCKET" in os.environ

    def show(self, ready: bool) -> None:
        """Do it now. A file that cannot be written is left as it is: its age shows the rest."""
        _notify_systemd("WATCHDOG=1")
        if self._file is None:
            return
        text = "ready" if ready else "starting"
        with suppress(OSError):
            if text != self._written:
                self._file.write_text(text)
                self._written = text
            os.utime(self._file)


async def show_liveness(liveness: Liveness, is_ready: Callable[[], bool]) -> None:
    """Show it from an event loop, as long as that turns."""
    while True:
        liveness.show(is_ready())
        await asyncio.sleep(Liveness.EVERY)


_PRIVATE: Final = 0o077


def keep_files_private() -> None:
    """Call it first in every process: databases, logs, attachments and secrets get modes 600 and 700."""
    os.umask(_PRIVATE)


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Import inside the block as if these were not installed, where libraries use them only if they are.

    It is for what a process has no use for: colours of a log that is JSON, reloading, a shell. Afterwards they can be
    imported as ever.
    """
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def log_at_last(stream: TextIO) -> None:
    """Write the warnings of loggers that have no handler, without one at the root: that is for authors to set."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.lastResort = handler
