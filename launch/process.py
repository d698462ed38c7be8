"""Starting a process that cannot outlive this one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _tie_to(parent: int) -> Callable[[], None]:
    """What the child does before it becomes the program: ask the kernel for SIGKILL when its parent ends.

    The kernel watches the *thread* that forked, so processes are started from the main thread. Elsewhere
    than on Linux there is no such request; there a child outlives a parent that was killed with SIGKILL.
    """

    def in_child() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # the parent ended between fork and request
                os._exit(1)

    return in_child


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    fds: Sequence[int] = (),
    user: str | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, so that a terminal's Ctrl-C reaches this process alone.

    `log` takes both output streams, appended (None: they stay this process's); `fds` are inherited;
    `user` is the account to run as, which only root may choose. OSError if the program cannot start.
    """
    out = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            pass_fds=fds,
            user=user,
            group=_group_of(user),
            extra_groups=[] if user else None,
            start_new_session=True,
            preexec_fn=_tie_to(os.getpid()),  # noqa: PLW1509 - single-threaded at start, and nothing else sets it
        )
    finally:
        if out:
            out.close()


def _group_of(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid


def end(process: subprocess.Popen[bytes], *, grace: float) -> int:
    """SIGTERM, then after `grace` seconds SIGKILL; the exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
