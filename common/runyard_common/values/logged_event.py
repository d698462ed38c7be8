"""A numbered fact in a task's log, as the database gives it, the stream carries it and the native API sends it.

A document, not a value object: a replay of thousands goes to its readers as it was read.
"""

from __future__ import annotations

from typing import Any, TypedDict


class LoggedEvent(TypedDict):
    """One event; `at` is in epoch seconds."""

    task_id: str
    seq: int
    type: str
    attempt: int
    data: Any
    at: float
