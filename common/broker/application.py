"""The Celery application. Messages carry ids and a format version, never what is to be done."""

from __future__ import annotations

from celery import Celery
from kombu.entity import Exchange, Queue

from common.broker.redis_patch import patch_kombu_redis
from common.settings import Settings

#: Doorbells: "work waits, claim it".
RUNS = "runyard.runs"
#: Callbacks that are due, on a queue of their own so that neither delays the other.
DELIVERIES = "runyard.deliveries"
WAKE = "runyard.wake"
DELIVER = "runyard.deliver"
FORMAT = 1


def application(settings: Settings) -> Celery:
    """A Celery application for these settings, connecting to nothing yet."""
    patch_kombu_redis()
    app = Celery("runyard", broker=settings.broker)
    app.conf.update(
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in (RUNS, DELIVERIES)],
        task_default_queue=RUNS,
        task_routes={WAKE: {"queue": RUNS}, DELIVER: {"queue": DELIVERIES}},
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_pool="workers.pool:AsyncioPool",
        worker_concurrency=settings.worker_concurrency,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=3,
        broker_transport_options={
            "socket_connect_timeout": 3,
            "socket_timeout": 10,
            "socket_keepalive": True,
            "visibility_timeout": 60,
        },
        broker_pool_limit=2,
        enable_utc=True,
        runyard_drain_seconds=settings.drain_seconds,
    )
    return app
