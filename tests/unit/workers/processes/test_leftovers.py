"""A process in which an agent's code has changed something is noticed, with what it is."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from runyard_workers.processes.leftovers import Leftovers

Undo = Callable[[], Any]


def _timer() -> Undo:
    before = signal.getitimer(signal.ITIMER_VIRTUAL)
    signal.setitimer(signal.ITIMER_VIRTUAL, 3600)
    return lambda: signal.setitimer(signal.ITIMER_VIRTUAL, *before)


def _mask() -> Undo:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    return lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _umask() -> Undo:
    before = os.umask(0o013)
    return lambda: os.umask(before)


def _limit() -> Undo:
    before = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (2**20, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_STACK, before)


def _close(*numbers: int) -> None:
    for number in numbers:
        os.close(number)


def _descriptors() -> Undo:
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
    return lambda: _close(*opened)


def _stream() -> Undo:
    before, sys.stdout = sys.stdout, sys.stderr
    return lambda: setattr(sys, "stdout", before)


def _redirected() -> Undo:
    before = os.dup(0)
    read, write = os.pipe()
    os.dup2(read, 0)

    def undo() -> None:
        os.dup2(before, 0)
        _close(before, read, write)

    return undo


def _logging() -> Undo:
    logging.disable(logging.ERROR)
    return lambda: logging.disable(logging.NOTSET)


def _path() -> Undo:
    sys.path.append("/nowhere")
    return lambda: sys.path.remove("/nowhere")


def _recursion() -> Undo:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 1)
    return lambda: sys.setrecursionlimit(before)


def _socket_timeout() -> Undo:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(77)
    return lambda: socket.setdefaulttimeout(before)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_timer, "a timer that sends a signal"),
        (_mask, "another mask of signals"),
        (_umask, "another umask"),
        (_limit, "other limits of resources"),
        (_descriptors, "40 open descriptors"),
        (_stream, "another standard stream"),
        (_redirected, "another file behind a standard stream"),
        (_logging, "other settings of logging"),
        (_path, "another sys.path"),
        (_recursion, "another recursion limit"),
        (_socket_timeout, "another default timeout of sockets"),
    ],
)
def test_what_a_run_leaves_changed_is_found(change: Callable[[], Undo], what: str) -> None:
    before = Leftovers()
    assert before.found() is None
    undo = change()
    try:
        assert before.found() == what
    finally:
        undo()
    assert before.found() is None
