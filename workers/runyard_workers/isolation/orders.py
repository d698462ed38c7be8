"""Signals that order a worker to leave: an operator's, or its supervisor's, and never a run's."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final

from runyard.errors import AgentError

#: What a worker, or the launcher above it, understands as an order to leave.
_ORDERS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP})


#: Signals that end or hold up no process that does not wait for them.
_HARMLESS: Final = frozenset({0, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})


def refuse(number: int, *, own: bool = True) -> None:
    """Refuse a signal of a run to its worker, if it is an order to leave: `AgentError` worker_signalled. `own`: the
    run is in that process. Of another one it may not end or stop it by any signal."""
    if number in _ORDERS or not (own or number in _HARMLESS):
        raise AgentError(
            f"The run sent {signal.Signals(number).name} to its worker's process, which serves other runs too. "
            "To end, a run returns or raises.",
            code="worker_signalled",
        )


def protect(worker: int) -> None:
    """Refuse what the code of this process sends to its worker, of that id, or to the worker's group. In child
    processes only: it cannot be undone."""
    try:
        group = os.getpgid(worker)
    except OSError:
        return  # it is gone

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if (event == "os.kill" and args[0] in (worker, -1, -group)) or (
            event == "os.killpg" and args[0] == group
        ):
            refuse(args[1], own=False)

    sys.addaudithook(audit)
