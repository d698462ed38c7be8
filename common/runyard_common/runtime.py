"""What every process is made of: the database, the store and its group commit, the live stream, the notifier."""

from __future__ import annotations

from typing import Any

import structlog

from runyard_common.commit_hooks import CommitHooks, Local, Notifier, Stream, admit_freed
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store
from runyard_common.identity.rules.caps import Caps
from runyard_common.identity.service import identity
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.settings import Settings
from runyard_common.stream.live import Live
from runyard_common.values.errors import ConfigurationError
from runyard_common.values.outages import Diagnosis, Outage

log = structlog.get_logger("runyard.runtime")


class NoNotifier:
    """Where no broker is known: the scheduler's relay notifies of what no worker has claimed."""

    def notify(self) -> None:
        """See `Notifier.notify`."""

    def notify_deliveries(self) -> None:
        """See `Notifier.notify_deliveries`."""

    def check(self) -> Diagnosis | None:
        return Diagnosis(Outage.AWAY, "no broker is set: RUNYARD_BROKER_URL")

    def close(self) -> None:
        """See `Notifier.close`."""


class Runtime:
    """Close it last."""

    def __init__(
        self,
        db: Database,
        stream: Stream,
        notifier: Notifier,
        caps: Caps | None = None,
        local: Local = Local(),
        writer: type[GroupCommit] = GroupCommit,
    ) -> None:
        """`local` is what this process itself does after its commits; `writer` the kind of its group commit."""
        self.db = db
        self.stream = stream
        self.notifier = notifier
        self.store = Store(db, CommitHooks(stream, notifier, self._admit, local), caps)
        self.writer = writer(self.store)

    def _admit(self, freed: frozenset[BlockedBy]) -> None:
        self.writer.submit(admit_freed, freed)

    def close(self) -> None:
        """Finish what is written, send what follows, and close the connections. It may take seconds."""
        self.writer.close()
        self.stream.close()  # before the notifier: it sends the wake-ups that Redis does not take
        self.notifier.close()
        self.db.close()


def open_runtime(
    settings: Settings,
    *,
    db: Database | None = None,
    pool_size: int = 10,
    app: Any = None,
    local: Local = Local(),
    writer: type[GroupCommit] = GroupCommit,
    optional: bool = False,
) -> Runtime:
    """The runtime of these settings; it connects when it is first used.

    `db` is the database where the caller has opened it, `app` the Celery application where it has one. Raises
    `ConfigurationError`, unless `optional`: a process that only stores runs does without a broker and a Redis.
    """
    db = db or Database(settings.database, pool_size=pool_size)
    plain = Store(db)
    stream = Live(
        redis_url(settings) if optional else settings.redis, installation=lambda: identity.installation(plain)
    )
    try:
        notifier = _notifier(settings, plain, app)
    except ConfigurationError as error:
        if not optional:
            raise
        log.warning(
            "Runs are stored, but no worker is woken: there is no broker.",
            action="start",
            reason=error.message,
        )
        notifier = NoNotifier()
    return Runtime(db, stream, notifier, Caps.of(settings), local, writer)


def redis_url(settings: Settings) -> str:
    """The Redis of the live stream; empty where there is none."""
    try:
        return settings.redis
    except ConfigurationError:
        return ""


def _notifier(settings: Settings, store: Store, app: Any) -> Notifier:
    # Celery takes long to import, and a test of an agent needs none.
    from runyard_common.broker.application import application
    from runyard_common.broker.notifier import BrokerNotifier

    return BrokerNotifier(app or application(settings), lambda: identity.installation(store))
