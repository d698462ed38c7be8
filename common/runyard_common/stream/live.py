"""The publishing side: never blocks or fails its caller; what cannot be sent is dropped, and logged."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from runyard_common.stream.clients import connect
from runyard_common.stream.commands import Command, execute
from runyard_common.stream.encoding import (
    ALL,
    ORG,
    PROBE,
    TASK,
    TIMEOUT,
    WAKE,
    WORKER,
    Published,
    encode,
    encode_each,
)
from runyard_common.stream.wake_ups import Kind, push
from runyard_common.tracing import wake_ups as wake_up_spans
from runyard_common.values.outages import Diagnosis, diagnose

log = structlog.get_logger()

_BATCH: Final = 500
_WARN_EVERY: Final = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: (channel, payload): events to list, a token's (attempt, data), a task id, or of a wake-up what to do without Redis.
_Item = tuple[str, Any]
#: What to do where a wake-up on this channel cannot be sent.
_WakeUps = dict[str, Callable[[], object]]


class Live:
    """Publishes to the live stream from a thread of its own. Safe to call from any thread.

    Without a Redis URL nothing is published: followers read the database.
    """

    def __init__(
        self,
        redis_url: str,
        queue_size: int = 10_000,
        installation: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`installation` looks up, on the thread, the id that the lists of wake-ups are named after."""
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._queue_size = queue_size
        self._installation = installation
        self._installation_id: str | None = None
        self._refused_at = -_WARN_EVERY
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
            self._client = connect(
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

    def wake(self, kind: Kind, otherwise: Callable[[], object]) -> None:
        """Wake a worker that waits on this installation's list; `otherwise` is called where Redis does not take it."""
        if self._thread is None or self.trouble is not None or self._queue.qsize() >= self._queue_size:
            otherwise()
        else:
            self._queue.put((WAKE + kind, otherwise))

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
        self._queue.put(None)
        self._thread.join(2 * TIMEOUT)
        self._client.close()

    def _put(self, item: _Item) -> None:
        if self._thread is None:
            return
        if self._queue.qsize() >= self._queue_size:
            self._lose([item], "its queue is full")
        else:
            self._queue.put(item)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            batch, more = self._gather()
            wake_ups = {channel: otherwise for channel, otherwise in batch if channel.startswith(WAKE)}
            messages = [item for item in batch if item[0] not in wake_ups]
            try:
                self._send(wake_ups, messages)
                pause = _FIRST_PAUSE
                self.trouble = None
            except (redis.RedisError, OSError) as error:
                self.trouble = diagnose(error)
                _call_each(wake_ups)
                self._lose(messages, self.trouble.reason)
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception as error:
                # Every run of the process publishes through this thread: it outlives any message.
                log.exception("A batch of live messages failed inside.", action="live.drop")
                _call_each(wake_ups)
                self._lose(messages, f"{type(error).__name__} in the publisher")
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

    def _send(self, wake_ups: _WakeUps, batch: list[_Item]) -> None:
        """Push the wake-ups and publish the messages in one round trip, the wake-ups first."""
        assert self._client is not None
        with self._lock:
            missed, self._missed = self._missed, set()
        messages, dropped = _messages(batch)
        if missed:
            messages.insert(0, (ALL, encode({"gap": sorted(missed)})))
        if dropped:
            self.unsendable += dropped
            log.warning(
                "Live messages without a JSON form were left out.", action="live.skip", dropped=dropped
            )
        lists = self._lists(wake_ups)
        pushes = [command for name in lists for command in push(name)]
        publishes: list[Command] = [("PUBLISH", channel, message) for channel, message in messages]
        try:
            if pushes or publishes:
                answers = execute(self._client, pushes + publishes)
                self._check_pushed(answers[: len(pushes)], wake_ups)
                _raise_refused(answers[len(pushes) :])
        except BaseException:
            with self._lock:
                self._missed |= missed
            raise

    def _lists(self, wake_ups: _WakeUps) -> list[str]:
        """The lists to push to; none, and what is to be done otherwise is done, while the installation is not known."""
        if wake_ups and self._installation_id is None:
            try:
                self._installation_id = self._installation()
            except Exception as error:  # noqa: BLE001 - the database is away
                log.warning("A wake-up waits for the database.", action="live.wake", reason=str(error)[:200])
        if self._installation_id is None:
            _call_each(wake_ups)
            return []
        return [f"{channel}:{self._installation_id}" for channel in wake_ups]

    def _check_pushed(self, answers: list[Any], wake_ups: _WakeUps) -> None:
        """A full or read-only Redis refuses pushes and takes messages: wake otherwise."""
        refused = next((answer for answer in answers if isinstance(answer, redis.ResponseError)), None)
        if refused is None:
            if answers and WAKE + Kind.RUNS in wake_ups:
                wake_up_spans.sent("list", "redis")
            return
        _call_each(wake_ups)
        if time.monotonic() - self._refused_at >= _WARN_EVERY:
            self._refused_at = time.monotonic()
            log.warning(
                "Redis refuses wake-ups; they go through the broker.",
                action="live.wake", reason=diagnose(refused).reason,
            )  # fmt: skip

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


def _call_each(wake_ups: _WakeUps) -> None:
    for otherwise in wake_ups.values():
        otherwise()


def _raise_refused(answers: list[Any]) -> None:
    for answer in answers:
        if isinstance(answer, redis.ResponseError):
            raise answer


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
