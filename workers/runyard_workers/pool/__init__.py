"""Celery worker pool on one asyncio loop: `worker_pool = "runyard_workers.pool:AsyncioPool"`.

`async def` tasks run on the loop, plain ones in threads. The loop lives as long as the worker process, so one
HTTP client, one database pool and any number of background coroutines can be shared by all tasks.
"""

from __future__ import annotations

from runyard_workers.pool.greenlets import async_task
from runyard_workers.pool.job import TaskCancelled
from runyard_workers.pool.pool import AsyncioPool, PoolStartError, loop_started, loop_stopping
from runyard_workers.pool.slots import Slots
from runyard_workers.pool.threads import DaemonThreads

__all__ = [
    "AsyncioPool",
    "DaemonThreads",
    "PoolStartError",
    "Slots",
    "TaskCancelled",
    "async_task",
    "loop_started",
    "loop_stopping",
]
