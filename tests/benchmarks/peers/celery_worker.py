"""What the subjects that use Celery have in common."""

from __future__ import annotations

from typing import Any

from celery import Celery

from tests.benchmarks.peers import site
from tests.benchmarks.peers.peer import Peer


def celery_app(backend: str | None = None) -> Any:
    """An app whose messages are acknowledged when their task has ended."""
    app = Celery("bench", broker=site.REDIS, backend=backend)
    app.conf.update(
        worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True
    )
    return app


def spawn_workers(peer: Peer, module: str) -> None:
    """Start the workers of the app in `module`, which do not watch each other."""
    quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle")
    of = ("-m", "celery", "-A", f"tests.benchmarks.peers.{module}", "worker", "-n", "%n@bench")
    peer.spawn_workers(*of, "-P", site.POOL, "-c", str(site.SLOTS), *quiet)
