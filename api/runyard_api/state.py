"""What an api process is made of: the store and its writer, the caches, the live stream, the notifier."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection

from runyard_api.access import capacity
from runyard_api.access.auth import Authenticator, KeyRing, Principal
from runyard_api.access.cookies import CookieSessions
from runyard_api.access.hash_queue import HashQueue
from runyard_api.access.rate_limits import RateLimits
from runyard_api.access.request_rates import RequestRates
from runyard_api.access.sign_in_attempts import SignInAttempts
from runyard_api.agent_cache import AgentCache
from runyard_api.batched_reads import Reader, in_time, unavailable
from runyard_common import surfaces, tracing
from runyard_common.clock import KnownClock
from runyard_common.commit_hooks import Local
from runyard_common.costly import CostlyWork
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import Batch, GroupCommit, lost_a_race
from runyard_common.database.start_checks import Process
from runyard_common.database.start_waits import once_there
from runyard_common.database.transaction import Outdated, Store, Tx
from runyard_common.files import open_files
from runyard_common.identity.queries import config_versions, logins
from runyard_common.identity.queries import identity as identity_store
from runyard_common.identity.service import identity
from runyard_common.metrics import counting, exposure
from runyard_common.metrics.installation import Installation
from runyard_common.process import descriptor_limit
from runyard_common.runs.service.runs import RunRules
from runyard_common.runtime import open_runtime, redis_url
from runyard_common.settings import Settings
from runyard_common.stream import Follower
from runyard_common.values.errors import Unavailable

if TYPE_CHECKING:
    from runyard_api.access.oidc_provider import OidcProvider

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")
#: How long a readiness check that passed counts, in seconds: it needs no key.
FRESH: Final = 0.5
#: How often the last use of keys is written down, in seconds.
NOTE_USE_EVERY: Final = 15.0


class State:
    """Opened once per process, on its event loop."""

    def __init__(self, settings: Settings, who: identity.Bootstrap, db: Database) -> None:
        self.settings = settings
        self.org_id = who.org_id  # the operator's organisation
        self.sealer = who.sealer
        self.db = db
        redis = redis_url(settings)
        self.follower = Follower(redis)
        # Followers here get this process's events directly, and not by way of Redis.
        local = Local(publish=self.follower.hand_over)
        self.runtime = open_runtime(settings, db=db, local=local, writer=_Writer, optional=True)
        self.store, self.writer = self.runtime.store, self.runtime.writer
        self.reader = Reader(self.store)
        self.keys = KeyRing(self.reader)
        self.auth = Authenticator(self.keys, _verifier(settings, self.reader))
        self.cookies = CookieSessions(self.reader, settings)
        self.agents = AgentCache(self.reader)
        self.rates = RateLimits(redis)
        self.surface_rates = surfaces.rates(settings.surface_requests_per_minute)
        self.sign_on = _provider(settings)
        self.sign_ins = SignInAttempts(redis)
        self.organisation_rates = RequestRates(redis, settings.requests_per_minute, who.org_id)
        # Not shared: who has no key shall not make this process write for each address.
        self.open_rates = RequestRates("", settings.open_requests_per_minute, kind="This address")
        self.hashing = HashQueue()
        self.codes = asyncio.Semaphore(
            2
        )  # codes of second factors at once, so that failures are counted between
        self.rules = RunRules.of(settings, self.sealer)
        self.files = open_files(settings.files)
        self.work = ThreadPoolExecutor(8, thread_name_prefix="work")
        self.costly = CostlyWork()
        self._checks = ThreadPoolExecutor(4, thread_name_prefix="check")
        self._passed_until: dict[object, float] = {}
        self._checking: dict[object, asyncio.Future[Any]] = {}
        self.connections = capacity.connections(descriptor_limit())
        self.open_calls = capacity.OpenCalls(settings.max_streams or self.connections // 2)
        self.unread = capacity.UnreadBytes(settings.max_unread_bytes, settings.max_all_unread_bytes)
        self.stopping = asyncio.Event()
        self.leaving = False  # asked to stop, but serving on: see RUNYARD_LAME_DUCK_SECONDS
        self.loop = asyncio.get_running_loop()
        self._noting: asyncio.Task[None] | None = None
        self.installation = Installation(self.store, settings.worker_concurrency)
        self.registry = exposure.registry_of(Process.API, [self.installation])
        self._watching: asyncio.Task[None] | None = None

    @staticmethod
    async def open(settings: Settings, given_up: Callable[[], bool] = lambda: False) -> State:
        """Open the database, and what else answers; without a broker runs are still accepted.

        It waits for a database that is away, until `given_up()`: then the driver's error is raised. Raises
        `ConfigurationError`, and the driver's errors for a database without tables.
        """
        db = Database(settings.database)
        who = await once_there(lambda: asyncio.to_thread(identity.bootstrap, Store(db), settings), given_up)
        if who.admin_key is not None:
            log.info("The first start made an admin key.", action="bootstrap", file=str(who.admin_key_file))
        state = State(settings, who, db)
        await state.follower.start()
        state.organisation_rates.start()
        state.open_rates.start()
        state._noting = asyncio.create_task(state._note_use_for_ever(), name="note-key-use")
        counting.begin(Process.API)
        state._watching = asyncio.create_task(counting.watch_loop(), name="loop-lag")
        exposure.expose(Process.API, state.registry, settings)
        return state

    def stop_waiting_threadsafe(self) -> None:
        """`stop_waiting`, from any thread."""
        self.loop.call_soon_threadsafe(self.stop_waiting)

    def stop_waiting(self) -> None:
        """Make waiters answer with what they know, and streams end where they can be resumed."""
        self.stopping.set()
        self.follower.wake()

    async def close(self) -> None:
        """Commit what is queued, then close everything."""
        self.stop_waiting()
        if self._noting is not None:
            self._noting.cancel()
        if self._watching is not None:
            self._watching.cancel()
        await self.follower.close()
        await self.rates.close()
        await self.sign_ins.close()
        await self.organisation_rates.close()
        await self.open_rates.close()
        if self.sign_on is not None:
            await self.sign_on.close()
        try:
            await self._note_use()
        except Exception as error:  # noqa: BLE001 - a missing note must not keep the process from ending
            log.warning("The last use of keys was not noted.", action="note_use", reason=str(error))
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.reader.close()
        self.work.shutdown(wait=False, cancel_futures=True)
        self.costly.close()
        self._checks.shutdown(wait=False, cancel_futures=True)
        self.runtime.close()
        tracing.stop()

    def now(self) -> float:
        """The database's time in epoch seconds, as this process knows it: see `DatabaseClock`."""
        return self.db.clock.now()

    async def configured_at(self, org_id: str) -> int:
        """The number of an organisation's configuration now: what was remembered at a lower one counts no more."""
        number = await self.reader.call(_numbers, org_id)
        self.db.memory.saw(org_id, number)
        return number

    async def write(self, command: Callable[Concatenate[Tx, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one command in a (shared) transaction; its answer once that has committed, or its error."""
        answer: R = await self.writer.call(_each, lambda tx: command(tx, *args, **kwargs))
        return answer

    async def preview(self, command: Callable[Concatenate[Tx, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a command that only looks, in a snapshot that nothing can be written in."""

        def look(conn: Connection) -> R:
            tx = Tx(self.db, conn, KnownClock(self.db.now(conn)), caps=self.store.caps)
            return command(tx, *args, **kwargs)

        return await self.reader.one(look)

    async def in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work that is no database read (files, hashing) on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.work, lambda: work(*args, **kwargs))

    async def check_in_thread(self, check: Callable[[], R]) -> R:
        """Run a readiness check on a thread; while one hangs, later callers wait for the same one, and what has passed
        is not checked again for `FRESH` seconds."""
        if self.loop.time() < self._passed_until.get(check, 0.0):
            return None  # type: ignore[return-value]
        running = self._checking.get(check)
        if running is None:
            running = self.loop.run_in_executor(self._checks, check)
            self._checking[check] = running
            running.add_done_callback(lambda _: self._checking.pop(check, None))
        result: R = await asyncio.shield(running)
        if result is None:
            self._passed_until[check] = self.loop.time() + FRESH
        return result

    def forget_callers(self) -> None:
        """Look all keys and sign-ins up again in this process: a role was changed, or a member left."""
        self.keys.forget_all()
        self.cookies.forget_all()

    async def _note_use_for_ever(self) -> None:
        while True:
            await asyncio.sleep(NOTE_USE_EVERY)
            try:
                await self._note_use()
            except Exception as error:  # noqa: BLE001 - tried again with the next notes
                log.warning("The last use of keys was not noted.", action="note_use", reason=str(error))

    async def _note_use(self) -> None:
        if used := self.keys.drain_used():
            await self.write(identity_store.note_use, used)
        if renewed := self.cookies.drain_used():
            await self.write(logins.renew, renewed)


def _verifier(settings: Settings, reader: Reader) -> Callable[[str], Awaitable[Principal]]:
    """Verifies JWTs. Their library comes with the first one: it costs as much time and memory as the HTTP server."""

    @functools.cache
    def tokens() -> Callable[[str], Awaitable[Principal]]:
        from runyard_api.access.tokens import Tokens

        return Tokens(settings, secret, reader)

    secret = identity.jwt_secret(settings)
    if settings.jwt_jwks_url:
        tokens()

    async def verify(token: str) -> Principal:
        return await tokens()(token)

    return verify


def _provider(settings: Settings) -> OidcProvider | None:
    """The provider of single sign-on, where one is set. Raises `ConfigurationError`."""
    if settings.sign_on is None:
        return None
    from runyard_api.access.oidc_provider import OidcProvider

    return OidcProvider.of(settings)


def _numbers(conn: Connection, org_ids: Sequence[str]) -> list[int]:
    numbers = config_versions.numbers(conn, set(org_ids))
    return [numbers[org_id] for org_id in org_ids]


class _Writer(GroupCommit):
    """Group commit for requests, which are answered even when the database is not."""

    async def call(self, batch: Batch, command: Any) -> Any:
        """See `GroupCommit.call`. Raises `Unavailable` when the database is silent."""
        asked = self.ask(batch, command)
        try:
            return await in_time(self._store.db, asked.future)
        except Unavailable:
            if asked.answered or self.withdraw(asked):
                raise
            raise unavailable(
                "Whether the request was carried out is not known yet: look, or repeat it with its Idempotency-Key."
            ) from None


def _each(tx: Tx, commands: Sequence[Callable[[Tx], Any]]) -> list[Any]:
    """Run single commands side by side: one that is refused takes back its own writes alone."""
    answers = []
    for command in commands:
        answers.append(_in_savepoint(tx, command))
        # SQLite has one writer, which waits for no other.
        tx.may_not_lock_tasks = tx.locks_tasks and tx.db.is_postgres
    return answers


def _in_savepoint(tx: Tx, command: Callable[[Tx], Any]) -> Any:
    before = (len(tx.events), tx.woken, len(tx.cancelled), len(tx.over), set(tx.freed), tx.deliveries)
    savepoint = tx.conn.begin_nested()
    try:
        answer = command(tx)
        savepoint.commit()
    except Exception as refusal:
        if isinstance(refusal, Outdated) or lost_a_race(refusal):
            raise  # of the whole transaction, which is tried again
        savepoint.rollback()
        events, tx.woken, cancelled, over, tx.freed, tx.deliveries = before
        del tx.events[events:], tx.cancelled[cancelled:], tx.over[over:]
        return refusal
    return answer
