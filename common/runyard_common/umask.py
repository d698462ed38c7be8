"""What a process writes belongs to its user alone, whatever the folder it writes into allows."""

from __future__ import annotations

import os
from typing import Final

_PRIVATE: Final = 0o077


def keep_files_private() -> None:
    """Call it first in every process: databases, logs, attachments and secrets get modes 600 and 700."""
    os.umask(_PRIVATE)
