"""The peer: bare Celery as people deploy it, a threads pool with results in Redis, on the same server."""

from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("peer", broker=os.environ.get("PEER_URL", ""), backend=os.environ.get("PEER_URL", ""))
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True)


@app.task
def noop() -> float:
    """Returns when it began."""
    return time.time()


@app.task
def sleep(seconds: float) -> float:
    """Sleeps in its thread."""
    time.sleep(seconds)
    return seconds
