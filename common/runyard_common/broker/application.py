"""The Celery application. Messages carry ids and a format version, never what is to be done."""

from __future__ import annotations

import hashlib
import ssl
import threading
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from runyard_common.broker.redis_patch import patch_kombu_redis
from runyard_common.settings import Settings
from runyard_common.values import broker_urls
from runyard_common.values.broker_urls import ServerUrl
from runyard_common.values.errors import ConfigurationError

#: Wake-ups of workers: "work waits, claim it".
RUNS = "runyard.runs"
#: Callbacks that are due, on a queue of their own so that neither delays the other.
DELIVERIES = "runyard.deliveries"
WAKE = "runyard.wake"
DELIVER = "runyard.deliver"
#: What dedicated workers consume: nothing is sent there. They look for their runs themselves, as a wake-up that they
#: took could be for runs of others.
DEDICATED: Final = "runyard.dedicated"
FORMAT = 1
CLASSIC: Final = "classic"
QUORUM: Final = "quorum"
#: A queue that does not exist: what is published to it is dropped.
PROBE: Final = "runyard.probe"
#: How long RabbitMQ may take to confirm that, in seconds; a readiness check waits for it.
PROBE_SECONDS: Final = 1.0

_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_REDIS_OPTIONS: Final = {
    "socket_connect_timeout": 3,
    "socket_timeout": 10,
    "socket_keepalive": True,
    "visibility_timeout": 60,
}
#: Redis' client would ask a Sentinel that is away three times, with seconds between; there are others to ask.
_SENTINEL_OPTIONS: Final = {
    "socket_connect_timeout": 1, "socket_timeout": 1, "retry": Retry(NoBackoff(), 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueNames:
    """The queues of one installation, so that several can share a broker without hearing each other."""

    runs: str = RUNS
    deliveries: str = DELIVERIES

    @staticmethod
    def of(installation: str, queue_type: str = CLASSIC) -> QueueNames:
        """The names of the installation with this id, or the common ones for an empty id."""
        suffix = "." + hashlib.sha256(installation.encode()).hexdigest()[:12] if installation else ""
        return QueueNames(_named(RUNS + suffix, queue_type), _named(DELIVERIES + suffix, queue_type))


def application(settings: Settings) -> Celery:
    """A Celery application for these settings, connecting to nothing yet. Raises `ConfigurationError`."""
    patch_kombu_redis()
    server = broker_urls.broker(settings.broker)
    queue_type = settings.broker_queue_type
    if queue_type == QUORUM and not _is_amqp(server.scheme):
        field = "RUNYARD_BROKER_QUEUE_TYPE"
        raise ConfigurationError(f"{field}: only RabbitMQ has quorum queues; leave it out.", field=field)
    app = Celery("runyard", broker=_kombu_url(server))
    blocked = threading.Event()
    names = QueueNames.of("", queue_type)
    app.conf.update(
        task_queues=[_queue(name, server.scheme, queue_type) for name in (names.runs, names.deliveries)],
        task_default_queue=names.runs,
        task_routes={WAKE: {"queue": names.runs}, DELIVER: {"queue": names.deliveries}},
        task_create_missing_queue_type=queue_type,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_pool="solo",
        worker_concurrency=settings.worker_concurrency,
        worker_consumer="runyard_common.broker.consumer:PatientConsumer",
        beat_scheduler="runyard",  # an entry point: plain `celery beat` does the duties of a scheduler
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=settings.remote_control,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=3,
        # A Redis that is full or read-only, and a RabbitMQ node that restarts, answer with errors of a
        # command. They pass like a lost connection does, and must not end the worker.
        broker_channel_error_retry=True,
        broker_use_ssl=_tls(server),
        broker_transport_options=_transport_options(server, blocked),
        broker_heartbeat=20,  # of RabbitMQ: a frozen node is noticed within 40 s
        broker_pool_limit=2,
        enable_utc=True,
        runyard_broker_blocked=blocked,
        runyard_broker_scheme=server.scheme,
        runyard_queue_type=queue_type,
    )
    return app


def consume(app: Celery, installation: str) -> None:
    """Make this worker consume its installation's queues, and those that older versions notify.

    Call it before the consumer starts. A choice of queues on the command line (`-Q`) is kept.
    """
    queue_type = app.conf.runyard_queue_type
    names, common = QueueNames.of(installation, queue_type), QueueNames.of("", queue_type)
    queues = app.amqp.queues
    for every, own in ((common.runs, names.runs), (common.deliveries, names.deliveries)):
        if every in queues.consume_from:
            queues.select_add(_queue(own, app.conf.runyard_broker_scheme, queue_type))


def consume_nothing(app: Celery) -> None:
    """Connect this worker to the broker, and leave all wake-ups to others. Call it before the consumer starts."""
    queue_type = app.conf.runyard_queue_type
    name = _named(DEDICATED, queue_type)
    app.amqp.queues.select_add(_queue(name, app.conf.runyard_broker_scheme, queue_type))
    app.amqp.queues.select([name])


def write(app: Celery, queue: str = "") -> None:
    """Declare a queue (default: that of all installations), as every wake-up does before it is sent: a write that
    leaves nothing else behind.

    Raises the transport's own errors; see `runyard_common.values.outages.diagnose`.
    """
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        with connection.channel() as channel:
            app.amqp.queues[queue or app.conf.task_default_queue](channel).declare()


class Probe:
    """Publishes what no queue gets: RabbitMQ blocks those alone that publish, and declares a queue for others."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None

    def publish(self) -> None:
        """Publish, and wait for the confirmation: then `blocked` is known. Raises the transport's own errors."""
        if self._connection is None:
            blocked(
                self._app
            ).clear()  # RabbitMQ confirms the first message of a connection, and reports the block with it
        connection, self._connection = self._connection or self._app.connection_for_write(), None
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            connection.Producer().publish("", routing_key=PROBE, retry=False, confirm_timeout=PROBE_SECONDS)
        except BaseException:
            connection.collect()  # to close it in order would wait for RabbitMQ, which reads nothing while it blocks
            raise
        self._connection = connection

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.collect()


def blocked(app: Celery) -> threading.Event:
    """Set while RabbitMQ blocks this process's publishers (memory or disk alarm)."""
    event: threading.Event = app.conf.runyard_broker_blocked
    return event


def is_amqp(app: Celery) -> bool:
    """Whether the broker is RabbitMQ, and not a Redis."""
    return _is_amqp(app.conf.runyard_broker_scheme)


def _named(name: str, queue_type: str) -> str:
    """RabbitMQ refuses a queue that is there with another type, so each type has names of its own."""
    return name if queue_type == CLASSIC else f"{name}.{queue_type}"


def _queue(name: str, scheme: str, queue_type: str) -> Queue:
    """On a Redis kombu would keep each message until it is acknowledged; a wake-up may be lost."""
    arguments = None if queue_type == CLASSIC else {"x-queue-type": queue_type}
    return Queue(
        name, Exchange(name), routing_key=name, no_ack=not _is_amqp(scheme), queue_arguments=arguments
    )


def _is_amqp(scheme: str) -> bool:
    return scheme.startswith("amqp")


def _kombu_url(server: ServerUrl) -> str:
    if server.scheme == "unix":
        return "redis+socket" + server.url.removeprefix("unix")
    if server.sentinels is None:
        return server.url
    # kombu takes user, password and database from whichever of them it is at.
    hosts = (one.partition("?")[0].partition("://")[2] for one in broker_urls.each_host(server.url))
    return ";".join(f"sentinel://{host}" for host in hosts)


def _tls(server: ServerUrl) -> dict[str, Any] | None:
    """Celery's `broker_use_ssl`: redis-py and py-amqp name the same things differently."""
    if server.tls is None:
        return None
    verify = _VERIFY[server.tls.verify]
    if not _is_amqp(server.scheme):
        return server.tls.options() | {"ssl_cert_reqs": verify}
    files = {name.removeprefix("ssl_"): path for name, path in server.tls.files.items()}
    hostname = server.host if server.tls.check_hostname else None
    return {"cert_reqs": verify, **files, **({"server_hostname": hostname} if hostname else {})}


def _transport_options(server: ServerUrl, blocked: threading.Event) -> dict[str, Any]:
    if server.sentinels is not None:
        asked = server.sentinels.sentinel_options() | _SENTINEL_OPTIONS
        return _REDIS_OPTIONS | {"master_name": server.sentinels.master_name, "sentinel_kwargs": asked}
    if not _is_amqp(server.scheme):
        return dict(_REDIS_OPTIONS)
    return {
        # A publish counts when the broker confirms it: under an alarm it would only fill the socket's buffer.
        "confirm_publish": True,
        "on_blocked": lambda _reason: blocked.set(),
        "on_unblocked": blocked.clear,
    }
