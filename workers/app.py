"""The Celery application of the workers: `celery -A workers.app worker`."""

from __future__ import annotations

from typing import Any

from celery.signals import celeryd_init

from common import telemetry
from common.broker.application import application
from common.services.start_checks import settings_for
from common.store.start_checks import Process
from common.umask import keep_files_private
from workers import tasks
from workers.pool import AsyncioPool, loop_started, loop_stopping
from workers.runtime import Runtime

settings = settings_for(Process.WORKER)
telemetry.configure(settings.log_level)
app = application(settings)
runtime = Runtime(settings, app)
tasks.register(app, runtime)


def _begin(**_: Any) -> None:
    keep_files_private()  # in a worker's process alone, and not where this module is only read


def _start(pool: AsyncioPool, **_: Any) -> Any:
    return runtime.start(pool)


def _stop(warm: bool, **_: Any) -> Any:
    # The pool cancels what runs on at the end of the grace period: be done, and closed, before.
    return runtime.stop(max(0.5, settings.drain_seconds - 2.0) if warm else 3.0)


celeryd_init.connect(_begin, weak=False)
loop_started.connect(_start, weak=False)
loop_stopping.connect(_stop, weak=False)
