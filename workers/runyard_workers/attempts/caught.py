"""Failures of steps that are not put on record when they occur, because their run would be tried again.

Where the code catches one and goes on, what it does next depends on it, and so it is part of the run's history.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from runyard.errors import JournalMismatch
from runyard_common.runs.rules.journal import CONCURRENT, HANDLES, Step
from runyard_workers.agent_code.exceptions import failed_step, mark

#: In a thread or a process: the key of the step whose failure its code handles while it calls.
HANDLED: ContextVar[str | None] = ContextVar("runyard_handled_failure", default=None)


def handled() -> str | None:
    """The key of the step whose failure is being handled where this is called: in `except`, and in a `finally` that it
    passes through."""
    return failed_step(sys.exception()) or HANDLED.get()


def handling(detail: dict[str, Any] | None) -> dict[str, Any] | None:
    """The detail of a step that begins here, with the failure that is being handled."""
    key = handled()
    return detail if key is None else {**(detail or {}), HANDLES: key}


class CaughtFailures:
    """Those of one attempt that its code may have caught."""

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        self._failed: list[tuple[Step, Exception]] = []

    @contextmanager
    def noting(self, step: Step) -> Generator[None]:
        """Inside, the step is done; its failure is noted. Not that of one beside others: any of those may go on."""
        try:
            yield
        except Exception as error:
            mark(error, step.key)
            if not isinstance(error, JournalMismatch) and CONCURRENT not in (step.detail or {}):
                self._failed.append((step, error))
            raise

    def noted(self) -> Iterator[tuple[Step, Exception]]:
        """The failures so far, each once."""
        while self._failed:
            yield self._failed.pop(0)
