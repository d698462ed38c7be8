"""Waiting on a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, seconds: float = 45.0, every: float = 0.02) -> T:
    """The condition's first true value; AssertionError if it stays false for `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"still not true after {seconds} s: {condition}"
        time.sleep(every)


async def until(condition: Callable[[], object], seconds: float = 45.0) -> None:
    """The same for coroutines; a condition that reads a database holds up the loop for as long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not true after {seconds} s: {condition}"
        await asyncio.sleep(0.02)
