"""Signals that a run sends to its own worker: the worker would think them its operator's, and drain.

SIGKILL and the crash signals are not caught: a run that ends its process outright is found by its death.
"""

from __future__ import annotations

import _thread
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from runyard_workers.isolation import orders
from runyard_workers.isolation.loop_guard import RUN

_installed = False


def install() -> None:
    """Refuse such signals when a run sends them. Once for a process, in worker processes only: it cannot be undone."""
    global _installed  # noqa: PLW0603 - a process has it or has not
    if _installed:
        return
    _installed = True
    sys.addaudithook(_audit)
    # These two raise no audit event.
    signal.raise_signal = _refusing(signal.raise_signal, signal.SIGTERM)
    _thread.interrupt_main = _refusing(_thread.interrupt_main, signal.SIGINT)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "os.kill":
        if args[0] in (0, -1, os.getpid(), os.getppid()):
            _refuse(args[1], own=args[0] != os.getppid())
    elif event == "os.killpg":
        if args[0] in (0, os.getpgrp()):
            _refuse(args[1])
    elif event == "signal.pthread_kill":
        _refuse(args[1])


def _refuse(number: int, *, own: bool = True) -> None:
    if RUN.get() is not None:
        orders.refuse(number, own=own)


def _refusing(call: Callable[..., Any], usual: int) -> Callable[..., Any]:
    @functools.wraps(call)
    def refusing(number: int = usual) -> Any:
        _refuse(number)
        return call(number)

    return refusing
