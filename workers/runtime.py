"""What a worker process is made of, wired together once, on the pool's loop."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from celery import Celery
from sqlalchemy.exc import OperationalError

from common.broker.doorbell import Doorbell
from common.domain.sealing import Sealer
from common.files import FileStore
from common.outbound import GuardedClient, OutboundPolicy
from common.services import identity
from common.services.aftermath import Aftermath
from common.settings import Settings
from common.store import outbox
from common.store.database import Database
from common.store.group_commit import GroupCommit
from common.store.transaction import Store
from common.stream import Follower, Live
from workers import catalogue
from workers.engine import Engine
from workers.pool import AsyncioPool
from workers.preparation import Preparation
from workers.webhooks import Deliverer, Keys, NearBell

if TYPE_CHECKING:
    from workers.agent.runner import DeclaredRunner

T = TypeVar("T")
logger = structlog.get_logger("runyard.worker")


class Runtime:
    """The engine and its parts. `start()` and `stop()` run on the pool's loop."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self.settings = settings
        self._app = app
        self.engine: Engine | None = None
        self.deliverer: Deliverer | None = None
        self._declared: DeclaredRunner | None = None
        self._importing = asyncio.Lock()

    async def start(self, pool: AsyncioPool) -> None:
        """Open the database, publish the agents, enlist, and begin to claim."""
        settings = self.settings
        definitions, manifests = catalogue.load(settings.agent_sources)
        self._db = Database(settings.database, pool_size=8)
        self._live = Live(settings.redis)
        self._follower = Follower(settings.redis)
        self._unlisten: Callable[[], None] = lambda: None
        plain = Store(self._db)
        self._bell = Doorbell(self._app, lambda ids: _forget(plain, ids))
        near = NearBell(self._bell)
        aftermath = Aftermath(self._live, near, on_wake=self._wake)
        self.store = Store(self._db, aftermath)
        self.writer = aftermath.writer = GroupCommit(self.store)
        sealer, org_id = await _once_there(self._identity, plain)
        count = await _once_there(catalogue.publish, self.store, org_id, definitions.values(), manifests)
        prepare = Preparation(
            self.store,
            self.writer,
            self._live,
            FileStore.from_url(settings.files),
            sealer,
            definitions,
            pool.run_blocking,
            self._declared_runner,
        )
        self.engine = Engine(self.store, self.writer, pool.slots, pool.limit, settings.lease_seconds, prepare)
        self.engine.on_enlisted = self._listen
        await self._follower.start()
        await self.engine.start()
        near.deliverer = self.deliverer = self._start_deliverer(sealer)
        logger.info("The worker claims runs", action="start", agents=count, concurrency=pool.limit)

    def _start_deliverer(self, sealer: Sealer) -> Deliverer:
        settings = self.settings
        policy = OutboundPolicy.parse(settings.allow_private_urls, settings.allowed_hosts)
        self._outward = GuardedClient(policy)
        keys = Keys(sealer, identity.secret_key(settings), settings.base_url)
        deliverer = Deliverer(self.writer, self._outward, keys)
        deliverer.start()
        return deliverer

    def _identity(self, store: Store) -> tuple[Sealer, str]:
        org_id = identity.bootstrap(store, self.settings).org_id
        return Sealer(identity.secret_key(self.settings)), org_id

    async def _declared_runner(self) -> DeclaredRunner:
        """Made at the first declared run. The agent library takes seconds to import: in a thread, so that the
        loop's other runs go on meanwhile."""
        async with self._importing:
            if self._declared is None:
                made = await asyncio.to_thread(importlib.import_module, "workers.agent.runner")
                self._declared = made.DeclaredRunner(self.settings, self.store, self.writer)
        assert self._declared is not None
        return self._declared

    def _wake(self) -> None:
        if self.engine is not None:
            self.engine.wake_threadsafe()

    def _listen(self, worker_id: str) -> None:
        """Hear stops pushed to this worker; the heartbeat finds those that do not get through."""
        assert self.engine is not None
        self._unlisten()
        self._unlisten = self._follower.listen_worker(worker_id, self.engine.stop_run)

    async def stop(self, seconds: float) -> None:
        """Drain within `seconds`, then close what was opened."""
        await asyncio.gather(
            *([self.engine.drain(seconds)] if self.engine is not None else []),
            *([self._stop_deliverer(seconds - 2)] if self.deliverer is not None else []),
        )
        if self._declared is not None:
            await self._declared.aclose()
        await self._follower.close()
        await asyncio.to_thread(self.writer.close)
        await asyncio.to_thread(self._bell.close)
        self._live.close()
        self._db.close()

    async def _stop_deliverer(self, seconds: float) -> None:
        assert self.deliverer is not None
        await self.deliverer.drain(seconds)
        await self._outward.aclose()


async def _once_there(work: Callable[..., T], *args: Any) -> T:
    """What `work` gives, once the database is there: a worker that starts before it waits for it."""
    while True:
        try:
            return await asyncio.to_thread(work, *args)
        except OperationalError as error:
            logger.warning(
                "The database does not answer; waiting", action="start", error=str(error.orig)[:200]
            )
            await asyncio.sleep(1)


def _forget(store: Store, ids: list[str]) -> None:
    with store.begin(durable=False) as tx:
        outbox.rung(tx, ids)
