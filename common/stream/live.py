"""The publishing side: never blocks or fails its caller; what cannot be sent is dropped, and said to be."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import orjson
import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.stream.channels import ALL, ORG, TASK, TIMEOUT, WORKER, Published

log = structlog.get_logger()

_BATCH: Final = 500
_WARN_EVERY: Final = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: (channel, payload): events to list, a token's (attempt, data), or a task id.
_Item = tuple[str, Any]


class Live:
    """Publishes to the live stream from a thread of its own. Safe to call from any thread.

    Without a Redis URL nothing is published: followers read the database.
    """

    def __init__(self, redis_url: str, queue_size: int = 10_000) -> None:
        self._queue: queue.Queue[_Item | None] = queue.Queue(queue_size)
        self._lock = threading.Lock()
        self._missed: set[str] = set()  # organisations that events were dropped of
        self._dropped = 0
        self._warned_at = 0.0
        self._closing = threading.Event()
        self._client: redis.Redis | None = None
        self._thread: threading.Thread | None = None
        if redis_url:
            self._client = redis.Redis.from_url(
                redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
            )
            self._thread = threading.Thread(target=self._run, name="live-stream", daemon=True)
            self._thread.start()

    def publish(self, happened: Sequence[Published]) -> None:
        """Send committed events: one message per organisation."""
        by_org: dict[str, list[Published]] = {}
        for event in happened:
            by_org.setdefault(event.org_id, []).append(event)
        for org_id, events in by_org.items():
            self._put((ORG + org_id, events))

    def token(self, task_id: str, attempt: int, data: dict[str, Any]) -> None:
        """Send a token delta; it is live only, and folded into the event that closes it."""
        self._put((TASK + task_id, (attempt, data)))

    def stop(self, worker_id: str, task_id: str) -> None:
        """Tell a worker that a run of its was stopped; it also learns that from its next write."""
        self._put((WORKER + worker_id, task_id))

    def close(self) -> None:
        """Send what is queued, if Redis answers at once, and end the thread."""
        if self._thread is None or self._client is None:
            return
        self._closing.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            pass  # the thread sees `_closing` after its next batch
        self._thread.join(2 * TIMEOUT)
        self._client.close()

    def _put(self, item: _Item) -> None:
        if self._thread is None:
            return
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._lose([item], "its queue is full")

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            batch, more = self._gather()
            try:
                self._send(batch)
                pause = _FIRST_PAUSE
            except (redis.RedisError, OSError) as error:
                self._lose(batch, str(error))
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            if not more or (self._closing.is_set() and self._queue.empty()):
                return

    def _gather(self) -> tuple[list[_Item], bool]:
        """What is queued, waiting for the first; only briefly while a gap is yet to be announced."""
        batch: list[_Item] = []
        try:
            item = self._queue.get(timeout=0.5 if self._missed or self._closing.is_set() else None)
            while item is not None:
                batch.append(item)
                if len(batch) >= _BATCH:
                    return batch, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _send(self, batch: list[_Item]) -> None:
        assert self._client is not None
        with self._lock:
            missed, self._missed = self._missed, set()
        pipe = self._client.pipeline(transaction=False)
        if missed:
            pipe.publish(ALL, orjson.dumps({"gap": sorted(missed)}))
        for channel, message in _messages(batch):
            pipe.publish(channel, message)
        try:
            if len(pipe):
                pipe.execute()
        except BaseException:
            with self._lock:
                self._missed |= missed
            raise

    def _lose(self, batch: list[_Item], why: str) -> None:
        with self._lock:
            self._missed.update(channel.removeprefix(ORG) for channel, _ in batch if channel.startswith(ORG))
            self._dropped += len(batch)
            now = time.monotonic()
            if not self._dropped or now - self._warned_at < _WARN_EVERY:
                return
            dropped, self._dropped, self._warned_at = self._dropped, 0, now
        log.warning(
            "The live stream is away: messages were dropped, followers read the database.",
            action="live.drop", dropped=dropped, reason=why,
        )  # fmt: skip


def _messages(batch: list[_Item]) -> list[tuple[str, bytes]]:
    """The messages of a batch, in order; token deltas that follow one another share a message."""
    found: list[tuple[str, bytes]] = []
    deltas: dict[tuple[str, int], list[Any]] = {}
    for channel, payload in batch:
        if channel.startswith(TASK):
            attempt, data = payload
            deltas.setdefault((channel, attempt), []).append(data)
            continue
        found.extend(_token_messages(deltas))
        deltas = {}
        if channel.startswith(ORG):
            events = [event.to_json() for event in payload]
            found.append((channel, orjson.dumps(events, option=orjson.OPT_NON_STR_KEYS)))
        else:
            found.append((channel, payload.encode()))
    return [*found, *_token_messages(deltas)]


def _token_messages(deltas: dict[tuple[str, int], list[Any]]) -> list[tuple[str, bytes]]:
    return [
        (channel, orjson.dumps({"attempt": attempt, "tokens": data}, option=orjson.OPT_NON_STR_KEYS))
        for (channel, attempt), data in deltas.items()
    ]
