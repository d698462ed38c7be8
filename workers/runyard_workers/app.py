"""The Celery application of the workers: `celery -A runyard_workers.app worker`."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from celery.signals import celeryd_init, setup_logging

from runyard_common import telemetry, tracing
from runyard_common.broker.application import application
from runyard_common.database import start_checks
from runyard_common.environment import load
from runyard_common.process import keep_files_private
from runyard_common.start_checks import CHECKS
from runyard_common.values.errors import ConfigurationError
from runyard_workers import bootstep, tasks
from runyard_workers.runtime import Runtime


def refuse(error: ConfigurationError) -> NoReturn:
    """End on settings that cannot work: the last line has the reason, and exit code 2 ends the restarts."""
    # Not `sys.stderr`, which code may have replaced: this line is for the process that started the worker.
    (sys.__stderr__ or sys.stderr).write(f"runyard worker: {error.message}\n")
    sys.exit(2)


try:
    settings = load()
    telemetry.configure(settings.log_level, hosts_code=True)
    app = application(settings)
except ConfigurationError as problem:
    refuse(problem)
runtime = Runtime(settings, app)
tasks.register(app, runtime)
bootstep.register(app, runtime)


def _begin(**_: Any) -> None:
    """In a worker's process alone, and not where this module is only read (beat, `celery inspect`)."""
    keep_files_private()
    try:
        start_checks.run(CHECKS, settings, start_checks.Process.WORKER)
    except ConfigurationError as problem:
        refuse(problem)
    tracing.start("runyard-worker")


def _leave_logging(**_: Any) -> None:
    """Celery sets up logging and the standard streams where nothing answers this signal: they are the authors'."""


celeryd_init.connect(_begin, weak=False)
setup_logging.connect(_leave_logging, weak=False)
