"""What a worker process is made of, wired together once, on its event loop."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from celery import Celery

import runyard
from runyard_common import tracing
from runyard_common.broker.application import consume, consume_nothing
from runyard_common.commit_hooks import Local
from runyard_common.costly import tune_process
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.outbound import GuardedClient, OutboundPolicy
from runyard_common.process import Liveness, notify_ready, raise_descriptor_limit, show_liveness
from runyard_common.settings import Settings
from runyard_common.stream import Follower, wake_ups
from runyard_common.stream.wake_ups import Kind
from runyard_common.values.errors import ConfigurationError
from runyard_workers.engine import Engine
from runyard_workers.execution import Execution
from runyard_workers.isolation import forks, signals
from runyard_workers.isolation.loop_guard import LoopGuard
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.pod import Pod, deletion_cost, keep_deletion_cost
from runyard_workers.quarantine import Quarantine
from runyard_workers.slots import Slots
from runyard_workers.webhooks import Deliverer, Keys

if TYPE_CHECKING:
    from runyard_workers.development import Development

logger = structlog.get_logger("runyard.worker")

#: Deliveries under way beyond which others are woken too. A message to the broker costs more than a wake here.
PLENTY: Final = 32


class Runtime:
    """The engine and its parts. `start()` and `stop()` run on the loop."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self.settings = settings
        self._app = app
        self.engine: Engine | None = None
        self.deliverer: Deliverer | None = None
        self._wake_ups: wake_ups.Listener | None = None
        self.refused: ConfigurationError | None = None  # why it could not start
        #: Set before `start` where `runyard dev` has started the process.
        self.development: Development | None = None
        self.leaving = False  # it claims nothing more, while its runs go on
        self._serves = False
        self._background: list[asyncio.Task[None]] = []
        self.stopping = False

    async def start(self, slots: Slots, threads: RunThreads) -> None:
        """Open the database, publish the agents, enlist, and begin to claim."""
        try:
            self._show(slots)
            await self._start(slots, threads)
        except ConfigurationError as error:
            self.refused = error
            raise

    async def _start(self, slots: Slots, threads: RunThreads) -> None:
        settings = self.settings
        loop, guard = asyncio.get_running_loop(), LoopGuard()
        guard.install(loop)
        forks.install(loop)
        signals.install()
        raise_descriptor_limit()
        development = self.development
        local = Local(wake=self._wake, deliver=self._deliver)
        if development is not None:
            local = replace(local, publish=development.publish)
        self._execution = execution = Execution(settings, self._app, local, development)
        if execution.problems:
            # Celery makes log lines of what goes to `sys.stderr`; this line is for the process that started the worker.
            (sys.__stderr__ or sys.stderr).write(f"runyard worker: {execution.problems}\n")
        self._follower = Follower(settings.redis)
        self._unlisten: Callable[[], None] = lambda: None
        await execution.open()
        if settings.worker_dedicated:
            consume_nothing(self._app)
        else:
            consume(self._app, execution.org_id)
        await execution.publish()
        if settings.worker_dedicated and not execution.agents:
            raise ConfigurationError(
                "A dedicated worker needs Python agents of its own: name them in RUNYARD_AGENTS.",
                field="RUNYARD_WORKER_DEDICATED",
            )
        if settings.metrics_listen is not None:
            self._background.append(loop.create_task(self._measure(slots), name="loop-lag"))
        self.engine = Engine(
            execution.store,
            execution.writer,
            slots,
            slots.limit,
            settings.lease_seconds,
            execution.preparation(threads),
            threads,
            guard,
            Quarantine(execution.plain),
            settings.loop_block_seconds or settings.lease_seconds,
            execution.agents,
            execution.brings,
            execution.resumes,
            settings.worker_dedicated,
            settings.release or runyard.__version__,
        )
        self.engine.on_enlisted = self._listen
        if development is not None:
            self.engine.on_begin = development.began
        self.engine.on_worn_out = _end_in_order
        await self._follower.start()
        await self.engine.start()
        tune_process()
        if not settings.worker_dedicated:
            self._serve_all(self.engine, slots)
        logger.info(
            "The worker claims runs", action="start", agents=len(execution.brings), concurrency=slots.limit
        )
        self._serves = True
        notify_ready()
        if development is not None:
            development.serves(
                execution.refused,
                execution.brings,
                lambda: loop.call_soon_threadsafe(self._begin_to_leave),
                execution.without_code,
            )

    def _serve_all(self, engine: Engine, slots: Slots) -> None:
        """Make callbacks, and take the wake-ups that are for any worker."""
        execution = self._execution
        self.deliverer = self._start_deliverer(execution.sealer)
        self._wake_ups = wake_ups.Listener(
            self.settings.redis,
            execution.org_id,
            lambda: slots.free > 0,
            {Kind.RUNS: engine.wake, Kind.DELIVERIES: self.deliverer.wake},
        )
        slots.on_free(self._wake_ups.look)

    def _show(self, slots: Slots) -> None:
        """Show from now on what others look at: that the loop turns, and what it would cost to end this worker."""
        begin = asyncio.get_running_loop().create_task
        if (liveness := Liveness(self.settings.alive_file)).is_watched:
            self._background.append(begin(show_liveness(liveness, lambda: self._serves), name="liveness"))
        if self.settings.pod_deletion_cost:
            noted = keep_deletion_cost(
                Pod.of_environment(), lambda: deletion_cost(slots.in_use, slots.paused)
            )
            self._background.append(begin(noted, name="deletion cost"))

    async def _measure(self, slots: Slots) -> None:
        """Count, and show it; look at how late the loop is. Its library is loaded only where that is wanted."""
        counting = await in_engine_thread(importlib.import_module, "runyard_workers.measuring")
        counting.begin(self.settings, slots, lambda: self.leaving or self.stopping)
        await counting.watch_loop()

    def _start_deliverer(self, sealer: Sealer) -> Deliverer:
        settings = self.settings
        policy = OutboundPolicy.of(settings)
        self._outward = GuardedClient(policy)
        keys = Keys(sealer, settings.base_url)
        deliverer = Deliverer(self._execution.writer, self._outward, keys)
        deliverer.start()
        return deliverer

    def _wake(self) -> None:
        if self.engine is not None:
            self.engine.wake_threadsafe()

    def _deliver(self) -> bool:
        """Let this worker make the callbacks that are due; whether it has not enough to do already."""
        if self.deliverer is None:
            return False
        self.deliverer.wake_threadsafe()
        return not self.deliverer.draining and self.deliverer.under_way <= PLENTY

    def _listen(self, worker_id: str) -> None:
        """Follow cancellations pushed to this worker; the heartbeat finds those that do not get through."""
        assert self.engine is not None
        self._unlisten()
        self._unlisten = self._follower.listen_worker(worker_id, self.engine.cancel_run)

    def _begin_to_leave(self) -> None:
        self._leave = asyncio.get_running_loop().create_task(self._leave_in_order(), name="leave")

    async def _leave_in_order(self) -> None:
        """Claim nothing more, let the runs under way end, and ask for the shutdown then."""
        assert self.engine is not None
        assert self.development is not None
        engine, development = self.engine, self.development
        self.leaving = True
        if self._wake_ups is not None:
            self._wake_ups.close()
        await engine.leave(lambda: development.leaves(engine.running))
        _end_in_order()

    async def stop(self, seconds: float) -> None:
        """Drain within `seconds`, then close what was opened."""
        self.stopping = True
        if self._wake_ups is not None:
            self._wake_ups.close()
        await asyncio.gather(
            *([self.engine.drain(seconds)] if self.engine is not None else []),
            *([self._stop_deliverer(seconds - 2)] if self.deliverer is not None else []),
        )
        await self._follower.close()
        await self._execution.close()
        for task in self._background:
            task.cancel()
        await in_engine_thread(tracing.stop)

    async def _stop_deliverer(self, seconds: float) -> None:
        assert self.deliverer is not None
        await self.deliverer.drain(seconds)
        await self._outward.aclose()


def _end_in_order() -> None:
    """Ask Celery for a warm shutdown, as the supervisor of this worker would."""
    # The caller may be a run's callback, and a run may not signal its worker.
    Context().run(os.kill, os.getpid(), signal.SIGTERM)
