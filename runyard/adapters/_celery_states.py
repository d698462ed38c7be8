"""The states of a Celery task as its result backend has them.

A Redis backend publishes each change, which is heard at once. Others are asked: in a thread, every `poll` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio
from celery import Celery
from celery.backends.redis import RedisBackend
from celery.states import READY_STATES
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

#: What a task is until a worker has it, in every backend: unknown.
_UNKNOWN: Final = "PENDING"
#: A Redis backend is asked that often too, in seconds: a message may be lost with its connection.
_AT_LEAST: Final = 30.0
#: No more changes than one in that many seconds are reported while the task runs.
_PAUSE: Final = 0.5


@dataclass(frozen=True)
class State:
    """A task's state. `info` is its result, its exception, or what it has noted about its progress."""

    name: str
    info: Any = None
    traceback: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.name in READY_STATES


async def changes(app: Celery, id_: str, poll: float, left: Callable[[], bool]) -> AsyncIterator[State]:
    """The states of a task, each change once, up to the last.

    `left`: whether the run has to end; the client may swallow its cancellation.
    """
    last: State | None = None
    async with _published(app, id_) as wait:
        while True:
            state = await asyncio.to_thread(_state, app, id_)
            if state.ready or (state != last and state.name != _UNKNOWN):
                yield state
                last = state
                if state.ready:
                    return
                await asyncio.sleep(_PAUSE)
            if left():
                raise asyncio.CancelledError
            await wait(poll)


def _state(app: Celery, id_: str) -> State:
    meta = app.backend.get_task_meta(id_)
    return State(meta["status"], meta.get("result"), meta.get("traceback"))


@contextlib.asynccontextmanager
async def _published(app: Celery, id_: str) -> AsyncIterator[Callable[[float], Any]]:
    """What waits for the next change: for a message, where the backend sends any, else for some seconds."""
    backend = app.backend
    if not isinstance(backend, RedisBackend) or type(backend).__name__ != "RedisBackend" or not backend.url:
        yield asyncio.sleep
        return
    client = redis.asyncio.Redis.from_url(backend.url)
    channel = client.pubsub(ignore_subscribe_messages=True)
    try:
        await channel.subscribe(backend.get_key_for_task(id_))
    except (RedisError, OSError) as error:
        _go_on_leaving()
        logger.warning(
            "The result backend of %s sends no messages (%s); it is asked instead", app.main, error
        )
        await client.aclose()
        yield asyncio.sleep
        return

    async def wait(poll: float) -> None:
        # In a task of its own: a cancellation of this one would wait for the client's time limit.
        heard = asyncio.ensure_future(channel.get_message(timeout=_AT_LEAST))
        try:
            await asyncio.wait({heard})
            heard.result()
        except (RedisError, OSError):
            _go_on_leaving()
            await asyncio.sleep(poll)  # it subscribes again by itself once the server is back
        finally:
            heard.cancel()

    try:
        yield wait
    finally:
        with contextlib.suppress(Exception):  # a cancellation in the middle of a message leaves it broken
            await channel.aclose()  # type: ignore[no-untyped-call]
            await client.aclose()


def _go_on_leaving() -> None:
    """Raise the cancellation of this task again where the client made an error of its own of it."""
    running = asyncio.current_task()
    if running is not None and running.cancelling():
        raise asyncio.CancelledError
