"""Programs that a process starts beside code of others that may fork.

A copy of the process that a fork makes, and no exec, keeps the pipe by which `subprocess` hears that a program has
started: the start of one would wait for the end of the copy.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, Final

_STARTING: Final = threading.Lock()
os.register_at_fork(
    before=_STARTING.acquire, after_in_parent=_STARTING.release, after_in_child=_STARTING.release
)


def started(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """The program, started; `options` as of `subprocess.Popen`, without a `preexec_fn`. Forks of other threads wait."""
    with _STARTING:
        return subprocess.Popen(command, **options)
