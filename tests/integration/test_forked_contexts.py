"""Copies of an agent's process that a fork makes: a call of the context from there is refused, and does not wait."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from runyard import AgentError, BlockingContext, agent
from runyard.testing import run


def called_in_a_copy(ctx: BlockingContext) -> str:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # where it waits
        heard = "served"
        try:
            ctx.step("copy", int)
        except AgentError as error:
            heard = error.code
        os.write(write, heard.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as copy:
        heard = copy.read()
    os.waitpid(pid, 0)
    return heard


@agent("@forks/thread")
def in_thread(ctx: BlockingContext, args: Any) -> list[Any]:
    return [called_in_a_copy(ctx), ctx.step("own", lambda: 7)]


@agent("@forks/process", isolation="process")
def in_process(ctx: BlockingContext, args: Any) -> list[Any]:
    return [called_in_a_copy(ctx), ctx.step("own", lambda: 7)]


@pytest.mark.parametrize("one", [in_thread, in_process])
def test_a_copy_of_a_process_makes_no_calls_and_the_run_goes_on(one: Any) -> None:
    outcome = run(one, processes=one is in_process)
    assert (outcome.status, outcome.output) == ("completed", ["forked_context", 7])
