"""The peer: bare Celery as people deploy it, a threads pool with results in Redis, on the same server."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

app = Celery("peer", broker=os.environ.get("PEER_URL", ""), backend=os.environ.get("PEER_URL", ""))
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True)


def _noop() -> float:
    """Returns when it began."""
    return time.time()


def _sleep(seconds: float) -> float:
    """Sleeps in its thread."""
    time.sleep(seconds)
    return seconds


noop: Any = app.task(_noop, name="peer.noop")
sleep: Any = app.task(_sleep, name="peer.sleep")
