"""What a worker process hears of the live stream: which of its runs were stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runyard_common.stream.follower import Follower


async def listen_worker(redis_url: str, worker_id: str, on_stop: Callable[[str], object]) -> None:
    """Call `on_stop` with the id of each run of this worker that is stopped, until cancelled.

    Reconnects by itself. Orders given meanwhile are lost here; the worker learns of them from its next write.
    """
    follower = Follower(redis_url)
    await follower.start()
    end = follower.listen_worker(worker_id, on_stop)
    try:
        await asyncio.Event().wait()
    finally:
        end()
        await follower.close()
