"""`python -m tests.benchmarks.bench_pool`: the asyncio pool beside Celery's threads pool, raw Celery tasks.

1,000 tasks that each sleep one second wait in a queue, and one worker process with 1,000 slots takes them. Wall
time runs from the begin of the first task to the end of the last; memory is the worker's peak. Both pools run
the same configuration against the same Valkey, in turns: once with the Redis transport's book of unacknowledged
messages (the default), once without (`ack_emulation` off), which suits messages that may be lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery import Celery

from runyard_workers.pool import async_task
from tests.servers import ValkeyServer

TASKS = int(os.environ.get("BENCH_POOL_TASKS", "1000"))
ROUNDS = int(os.environ.get("BENCH_POOL_ROUNDS", "3"))
SECONDS = 1.0
QUEUE = "bench"
RESULT = "bench-result"
POOLS = {"asyncio": "runyard_workers.pool:AsyncioPool", "threads": "threads"}

app = Celery("bench_pool", broker=os.environ.get("BENCH_POOL_URL", "memory://"))
app.conf.update(
    worker_pool=POOLS.get(os.environ.get("BENCH_POOL", ""), "solo"),
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"ack_emulation": os.environ.get("BENCH_POOL_BOOK") == "1"},
)


class Tally:
    """What the worker saw: tasks at once, tasks done; reported when the last is over."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most = self.done = 0
        self.began = 0.0

    def begin(self) -> None:
        with self.lock:
            self.began = self.began or time.monotonic()
            self.running += 1
            self.most = max(self.most, self.running)

    def end(self) -> None:
        with self.lock:
            self.running -= 1
            self.done += 1
            over = self.done == TASKS
        if over:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            report = {
                "wall": time.monotonic() - self.began,
                "most": self.most,
                "rss_mib": usage.ru_maxrss / 1024,
                "cpu": usage.ru_utime + usage.ru_stime,
            }
            redis.Redis.from_url(os.environ["BENCH_POOL_URL"]).rpush(RESULT, json.dumps(report))


tally = Tally()


@async_task(app, name="bench.asyncio")
async def sleep_on_loop() -> None:
    """One second of waiting, as an agent waits for a model."""
    tally.begin()
    await asyncio.sleep(SECONDS)
    tally.end()


@app.task(name="bench.threads")  # type: ignore[untyped-decorator]
def sleep_in_thread() -> None:
    """The same, the only way the threads pool can."""
    tally.begin()
    time.sleep(SECONDS)
    tally.end()


@contextmanager
def worker(pool: str, url: str, book: bool) -> Iterator[None]:
    """A worker process with a slot for every task."""
    settings = {"BENCH_POOL": pool, "BENCH_POOL_URL": url, "BENCH_POOL_BOOK": str(int(book))}
    quiet = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
    command = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.bench_pool", "worker"]
    options = ["-c", str(TASKS), "-Q", QUEUE, "-l", "ERROR", "--without-gossip", "--without-mingle"]
    process = subprocess.Popen(
        [*command, *options], env={**os.environ, **settings, **quiet}, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def measure(pool: str, url: str, book: bool) -> dict[str, float]:
    """One round: wall time in seconds, peak memory in MiB, CPU seconds of the process, most tasks at once."""
    server = redis.Redis.from_url(url, socket_timeout=130)
    server.flushall()
    producer = Celery(broker=url)
    for _ in range(TASKS):
        producer.send_task(f"bench.{pool}", queue=QUEUE, ignore_result=True)
    with worker(pool, url, book):
        answer: Any = server.blpop([RESULT], timeout=120)
    producer.close()
    server.close()
    return {key: float(value) for key, value in json.loads(answer[1]).items()}


def compare(url: str, book: bool) -> None:
    """Measure in turns; print medians, the best rounds, and ratios."""
    rounds: dict[str, list[dict[str, float]]] = {pool: [] for pool in POOLS}
    print(f"{TASKS} tasks of {SECONDS:g} s in one worker process, ack_emulation={book}, {ROUNDS} rounds")
    for number in range(ROUNDS):
        for pool, seen in rounds.items():
            seen.append(measure(pool, url, book))
            figures = " ".join(f"{key}={value:.2f}" for key, value in seen[-1].items())
            print(f"  round {number + 1} {pool:8} {figures}", flush=True)
    for key, name in (("wall", "wall s"), ("rss_mib", "peak MiB"), ("cpu", "CPU s")):
        for label, pick in (("median", statistics.median), ("best", min)):  # other work only ever adds
            ours, theirs = (pick([one[key] for one in rounds[pool]]) for pool in ("asyncio", "threads"))
            ratio = f"ratio {ours / theirs:.2f}"
            print(f"  {name:9} {label:7} asyncio {ours:7.2f}  threads {theirs:7.2f}  {ratio}")


def main() -> None:
    """Compare with the transport's book and without."""
    valkey = ValkeyServer()
    valkey.start()
    try:
        for book in (True, False):
            compare(valkey.url, book)
    finally:
        valkey.stop()


if __name__ == "__main__":
    main()
