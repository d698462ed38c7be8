"""Forks: a child that an agent makes with `os.fork` shares the worker's loop, and must not go on with its runs.

The child has a copy of everything, the event loop and every run on it included. It may do what the agent forked it
for; the moment it comes back to the loop, or to a thread of the worker's, it ends.
"""

from __future__ import annotations

import asyncio
import os

_forked = False


def install(loop: asyncio.AbstractEventLoop) -> None:
    """End children that this process's loop finds itself in. Call it on the loop's thread, in worker processes only."""

    def in_child() -> None:
        global _forked  # noqa: PLW0603 - a process is a child or it is not
        _forked = True
        # For code that forks outside any task, such as a callback; from another thread the loop does not run at all.
        loop.call_soon(os._exit, 0)

    os.register_at_fork(after_in_child=in_child)


def end_if_forked() -> None:
    """End this process at once if it is a child that an agent forked."""
    if _forked:
        os._exit(0)
