"""The publishing side: never blocks or fails its caller; what cannot be sent is dropped, and logged."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from runyard_common.stream.encoding import (
    ALL,
    ORG,
    PROBE,
    TASK,
    TIMEOUT,
    WORKER,
    Published,
    encode,
    encode_each,
)
from runyard_common.values.outages import Diagnosis, diagnose

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
        #: Messages without a JSON form, which were left out.
        self.unsendable = 0
        #: What was wrong at the last publish or check; None while Redis takes messages.
        self.trouble: Diagnosis | None = None
        self._client: redis.Redis | None = None
        self._thread: threading.Thread | None = None
        if redis_url:
            self._client = redis.Redis.from_url(
                redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
            )
            self._thread = threading.Thread(target=self._run, name="live-stream", daemon=True)
            self._thread.start()

    def publish(self, events: Sequence[Published]) -> None:
        """Send committed events: one message per organisation."""
        by_org: dict[str, list[Published]] = {}
        for event in events:
            by_org.setdefault(event.org_id, []).append(event)
        for org_id, events in by_org.items():
            self._put((ORG + org_id, events))

    def token(self, task_id: str, attempt: int, data: dict[str, Any]) -> None:
        """Send a token delta; it is live only, and folded into the event that closes it."""
        self._put((TASK + task_id, (attempt, data)))

    def cancel(self, worker_id: str, task_id: str) -> None:
        """Notify a worker that one of its runs was cancelled; it also learns that from its next write."""
        self._put((WORKER + worker_id, task_id))

    def check(self) -> Diagnosis | None:
        """Publish a message without followers, on the caller's thread; what is wrong with Redis, or None."""
        if self._client is None:
            return None
        try:
            self._client.publish(PROBE, b"")
        except (redis.RedisError, OSError) as error:
            self.trouble = diagnose(error)
        else:
            self.trouble = None
        return self.trouble

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
                self.trouble = None
            except (redis.RedisError, OSError) as error:
                self.trouble = diagnose(error)
                self._lose(batch, self.trouble.reason)
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception as error:
                # Every run of the process publishes through this thread: it outlives any message.
                log.exception("A batch of live messages failed inside.", action="live.drop")
                self._lose(batch, f"{type(error).__name__} in the publisher")
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
            pipe.publish(ALL, encode({"gap": sorted(missed)}))
        messages, dropped = _messages(batch)
        for channel, message in messages:
            pipe.publish(channel, message)
        if dropped:
            self.unsendable += dropped
            log.warning(
                "Live messages without a JSON form were left out.", action="live.skip", dropped=dropped
            )
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


def _messages(batch: list[_Item]) -> tuple[list[tuple[str, bytes]], int]:
    """The messages of a batch, in order, and how many items have no JSON form.

    Token deltas that follow one another share a message.
    """
    found: list[tuple[str, bytes]] = []
    deltas: dict[tuple[str, int], list[Any]] = {}
    dropped = 0
    for channel, payload in batch:
        if channel.startswith(TASK):
            attempt, data = payload
            deltas.setdefault((channel, attempt), []).append(data)
            continue
        dropped += _add_tokens(found, deltas)
        deltas = {}
        if channel.startswith(ORG):
            events, lost = encode_each(event.to_json() for event in payload)
            dropped += lost
            # An event left out would be missed: its followers read the database instead.
            found.append((channel, b"[" + b",".join(events) + b"]") if not lost else _gap(channel))
        else:
            found.append((channel, payload.encode("utf-8", "replace")))
    dropped += _add_tokens(found, deltas)
    return found, dropped


def _gap(channel: str) -> tuple[str, bytes]:
    return ALL, encode({"gap": [channel.removeprefix(ORG)]})


def _add_tokens(found: list[tuple[str, bytes]], deltas: dict[tuple[str, int], list[Any]]) -> int:
    """Add a message for each attempt's deltas; how many deltas have no JSON form."""
    dropped = 0
    for (channel, attempt), data in deltas.items():
        tokens, lost = encode_each(data)
        dropped += lost
        if tokens:
            found.append((channel, b'{"attempt":%d,"tokens":[%s]}' % (attempt, b",".join(tokens))))
    return dropped
