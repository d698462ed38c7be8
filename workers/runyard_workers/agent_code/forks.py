"""Copies of an agent's process, by `os.fork` or multiprocessing's "fork": nothing serves the calls that they make."""

from __future__ import annotations

import os

from runyard.errors import AgentError


def refuse_copy(pid: int) -> None:
    """Refuse a call of a context in a copy of the process `pid`, which has it. `AgentError` forked_context."""
    if os.getpid() != pid:
        raise AgentError(
            f"ctx is of process {pid}, and this is a copy that a fork made: a call from here would wait for ever. Give "
            'its result back to the code that forked, or use multiprocessing\'s "spawn".',
            code="forked_context",
        )
