"""How child processes of a worker end: with it, and in words."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, or end it now if `parent` is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def out_of_memory_kills() -> int:
    """Times the kernel has killed a process of this control group for want of memory; 0 where that is not reported."""
    for file in (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control")):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
    return 0


def described(status: int, out_of_memory: bool = False) -> str:
    """The exit status of a process in words; a signal's number is a negative status."""
    if out_of_memory:
        return "the kernel killed it for want of memory (signal 9, SIGKILL)"
    if status < 0:
        try:
            return f"killed by signal {-status} ({signal.Signals(-status).name})"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exit code {status}"


def details(status: int, out_of_memory: bool = False) -> dict[str, object]:
    """The same as details of an error."""
    found: dict[str, object] = {"signal": -status} if status < 0 else {"exit_code": status}
    return found | ({"out_of_memory": True} if out_of_memory else {})
