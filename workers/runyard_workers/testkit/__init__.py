"""Behind `runyard.testing`: one run, driven through the real engine's parts on a database of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from runyard.testing import Outcome, Request
from runyard_workers.isolation.threads import DaemonThreads
from runyard_workers.testkit.bench import Bench

_THREADS: Final = 32


async def run(request: Request, began: Callable[[], None] = lambda: None) -> Outcome:
    """Make the run; see `runyard.testing.run`. `began` is called once when all is ready and the time counts."""
    with tempfile.TemporaryDirectory(prefix="runyard-test-", ignore_cleanup_errors=True) as folder:
        bench = await asyncio.to_thread(Bench, Path(folder), request)
        try:
            began()
            async with asyncio.timeout(request.timeout):
                return await bench.go()
        except TimeoutError:
            raise AssertionError(f"The run did not end within {request.timeout:g} s.") from None
        finally:
            await bench.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop whose threads are daemons: what an agent leaves running in one keeps no test process alive."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(DaemonThreads(_THREADS, "runyard-testing"))
    return loop
