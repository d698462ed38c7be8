"""What this process may do: its limit of file descriptors, the mode of its files."""

from __future__ import annotations

import os
import resource
from typing import Final


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


_PRIVATE: Final = 0o077


def keep_files_private() -> None:
    """Call it first in every process: databases, logs, attachments and secrets get modes 600 and 700."""
    os.umask(_PRIVATE)
