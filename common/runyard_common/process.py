"""What this process may do and what it loads: its limit of file descriptors, the mode of its files, its libraries."""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """Write a line on the descriptor that the supervisor named in READY_FD (as s6's notification-fd), once."""
    with suppress(OSError, ValueError):
        descriptor = int(os.environ.pop("READY_FD", "-1"))
        os.write(descriptor, b"\n")
        os.close(descriptor)


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
