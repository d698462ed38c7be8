"""The applications that workers of `test_pool_celery` serve; what their tasks do is noted in a Redis list."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import redis
from celery import Celery

from runyard_common.broker.redis_patch import patch_kombu_redis
from runyard_workers.pool import AsyncioPool, async_task, loop_started, loop_stopping

NOTES = os.environ.get("POOL_TEST_NOTES", "redis://")

patch_kombu_redis()


def _celery(name: str) -> Celery:
    made = Celery(name, broker=os.environ.get("POOL_TEST_BROKER", "memory://"), backend=NOTES)
    made.conf.update(
        worker_pool="runyard_workers.pool:AsyncioPool",
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        runyard_drain_seconds=20,
    )
    return made


early = _celery("early")  # all the tasks below but those that acknowledge late: Celery shares the others
app = _celery("app")


def note(what: str) -> None:
    with redis.Redis.from_url(NOTES) as notes:
        notes.rpush("notes", what)


@loop_started.connect  # type: ignore[untyped-decorator]
def begin(loop: Any, pool: Any, **_: Any) -> None:
    note(f"loop started {loop is asyncio.get_running_loop()} {AsyncioPool.current() is pool}")


@loop_stopping.connect  # type: ignore[untyped-decorator]
async def hand_back(warm: bool, **_: Any) -> None:
    await asyncio.sleep(0.05)
    note(f"handed back warm={warm}")


@async_task(app, name="add", bind=True)
async def add(self: Any, left: int, right: int) -> dict[str, Any]:
    await asyncio.sleep(0.01)
    return {"sum": left + right, "id": self.request.id}


@app.task(name="describe", bind=True)  # type: ignore[untyped-decorator]
def describe(self: Any, result: dict[str, Any]) -> str:
    return f"{result['sum']} from its parent: {self.request.parent_id == result['id']}"


@async_task(app, name="third_time_lucky", bind=True, max_retries=3)
async def third_time_lucky(self: Any) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@async_task(
    app, name="refused", autoretry_for=(ConnectionError,), retry_kwargs={"max_retries": 2, "countdown": 0}
)
async def refused() -> None:
    note("refused")
    await asyncio.sleep(0)
    raise ConnectionError("refused")


async def _sleep(seconds: float) -> str:
    note("asleep")
    try:
        await asyncio.sleep(seconds)
    finally:
        note("woken")
    return "slept"


@async_task(app, name="sleep")
async def sleep(seconds: float) -> str:
    return await _sleep(seconds)


@async_task(app, name="sleep_then_ack", acks_late=True, shared=False)
async def sleep_then_ack(seconds: float) -> str:
    return await _sleep(seconds)


@async_task(app, name="hold_then_ack", acks_late=True, shared=False)
async def hold_then_ack(key: str) -> None:
    note("held")
    with redis.Redis.from_url(NOTES, socket_timeout=60) as notes:
        await asyncio.to_thread(notes.blpop, [key], 50)
    note("let go")


@app.task(name="block")  # type: ignore[untyped-decorator]
def block(seconds: float) -> str:
    note("blocked")
    time.sleep(seconds)
    return "unblocked"
