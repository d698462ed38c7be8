"""Starting a process that cannot outlive this one, and the ports for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from runyard_launch.supervisor import parent_death

_USER, _SYSTEM = 10, 11  # in /proc/PID/stat, behind the state


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    fds: Sequence[int] = (),
    user: str | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` so that the kernel kills it when this process ends (Linux; elsewhere it lives on).

    The kernel watches the *thread* that starts it: call this from the main thread. The child gets a session
    of its own, so a terminal's Ctrl-C reaches this process alone. `log` takes both output streams, appended
    (None: they stay this process's); `fds` are inherited; `user` is the account to run as, which only root
    may choose. A program that cannot be started leaves the reason in its log and ends with 1.
    """
    prefix = [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid()), user or ""]
    out = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            [*prefix, *(str(part) for part in argv)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            pass_fds=fds,
            start_new_session=True,
        )
    finally:
        if out:
            out.close()


def end(process: subprocess.Popen[bytes], *, grace: float) -> int:
    """SIGTERM, then after `grace` seconds SIGKILL; the exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def activity(pid: int) -> tuple[int, bool]:
    """How much a process has used the processor, in clock ticks, and whether it uses it, or waits for it or a disk now.

    Linux alone shows it: elsewhere, and of a process that has gone, (0, False).
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, False
    return int(fields[_USER]) + int(fields[_SYSTEM]), state in "RD"


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
    """A free TCP port, for a program that takes its port as an argument."""
    with listening_socket(host) as listener:
        return int(listener.getsockname()[1])
