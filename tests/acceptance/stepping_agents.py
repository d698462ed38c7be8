"""An agent that takes step after step until the test lets it end, so that it is under way for as long as that takes."""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path
from typing import Any

from runyard import BlockingContext, agent


@agent("@test/stepping")
def stepping(ctx: BlockingContext, args: dict[str, Any]) -> int:
    """Steps in a thread until the file `until` is there, at least one in each process; returns how many."""
    for number in count(1):
        done_by = ctx.step(f"step {number}", _work)
        if done_by == os.getpid() and Path(args["until"]).exists():
            return number
    raise AssertionError


def _work() -> int:
    time.sleep(0.1)
    return os.getpid()
