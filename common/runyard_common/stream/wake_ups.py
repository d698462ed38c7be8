"""Wake-ups over Redis: a push on a list wakes one of the workers that wait on it.

A wake-up carries nothing and may be lost or repeated: the database knows what waits. Lists without a listener
neither grow nor last.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from runyard_common.stream.clients import connect
from runyard_common.stream.commands import Command, execute
from runyard_common.stream.encoding import TIMEOUT, WAKE
from runyard_common.values.outages import diagnose

log = structlog.get_logger()

#: Wake-ups that may wait on a list while every worker is busy.
AT_MOST: Final = 8
#: How long they may wait there, in seconds.
KEPT: Final = 60
#: How long one BLPOP waits, in seconds: how soon a frozen or vanished Redis is noticed.
_WAIT: Final = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_WARN_EVERY: Final = 10.0


class Kind(StrEnum):
    """What waits for a worker; each has a list of its own."""

    RUNS = "runs"
    DELIVERIES = "deliveries"


def list_name(kind: Kind, installation: str) -> str:
    """The list of one installation, as several may share a Redis."""
    return f"{WAKE}{kind}:{installation}"


def push(name: str) -> list[Command]:
    """The commands that put a wake-up on a list."""
    return [("LPUSH", name, b"1"), ("LTRIM", name, 0, AT_MOST - 1), ("EXPIRE", name, KEPT)]


class Listener:
    """Takes wake-ups on a thread of its own, over a connection of its own, while its worker has a use for them.

    A thread costs as much here as the event loop does, 0.3 ms of CPU a wake-up, and nothing that Redis does holds up
    the loop. Create it on the loop; the other methods are for any thread.
    """

    def __init__(
        self,
        redis_url: str,
        installation: str,
        ready: Callable[[], bool],
        wake: Mapping[Kind, Callable[[], object]],
    ) -> None:
        """`ready` is whether the worker has a free slot; call `look` when it may have become true. `wake` has what a
        wake-up of each kind calls, on the loop. A loop that is blocked takes one wake-up and leaves the next to others.
        """
        self._lists = {list_name(kind, installation).encode(): kind for kind in wake}
        self._ready = ready
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._unheard = False  # the loop has yet to hear of the last wake-up
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._pause = _FIRST_PAUSE
        self._warned_at = -_WARN_EVERY
        if redis_url:
            self._client = connect(
                redis_url,
                socket_timeout=_WAIT + TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0),
            )  # fmt: skip
            threading.Thread(target=self._run, name="wake-ups", daemon=True).start()

    def look(self) -> None:
        """There may be a free slot again. Call it from any thread."""
        self._changed.set()

    def close(self) -> None:
        """Take no more. The thread ends within seconds; what arrives until then is given back."""
        self._closed.set()
        self._changed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError) as error:
                self._warn(error)
            except Exception:
                # Without this thread every wake-up of the worker would take seconds.
                log.exception("Taking wake-ups failed inside.", action="wake_ups.reconnect")
            self._closed.wait(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._client.close()

    def _listen(self) -> None:
        """Take wake-ups until the connection is lost, or no more are wanted."""
        pool = self._client.connection_pool
        connection: Any = pool.get_connection()
        try:
            pop = connection.pack_command("BLPOP", *self._lists, _WAIT)
            while self._wait_until_ready():
                connection.send_packed_command(pop, check_health=False)
                popped = connection.read_response()
                self._pause = _FIRST_PAUSE
                if popped is not None:
                    self._accept(popped[0])
        finally:
            connection.disconnect()
            pool.release(connection)

    def _wait_until_ready(self) -> bool:
        """Wait until the worker has a use for a wake-up; False when the listener is closed."""
        while not self._closed.is_set():
            self._changed.clear()
            if self._ready() and not self._unheard:
                return True
            self._changed.wait()
        return False

    def _accept(self, name: bytes) -> None:
        kind = self._lists[name]
        if self._closed.is_set() or (kind is Kind.RUNS and not self._ready()):
            execute(self._client, push(name.decode()))  # its slots were filled meanwhile: wake another worker
            return
        self._unheard = True
        self._loop.call_soon_threadsafe(self._hear, kind)

    def _hear(self, kind: Kind) -> None:
        self._unheard = False
        self._changed.set()
        self._wake[kind]()

    def _warn(self, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY and not self._closed.is_set():
            self._warned_at = now
            log.warning(
                "Wake-ups over Redis do not arrive; the worker looks for runs every few seconds.",
                action="wake_ups.reconnect", reason=diagnose(error).reason,
            )  # fmt: skip
