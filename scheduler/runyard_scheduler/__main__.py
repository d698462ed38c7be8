"""`python -m runyard_scheduler`: one scheduler process. Start as many as you like."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays; `tune_process` turns the collector on

import argparse
import os
import signal
import sys
import threading

from runyard_common.process import without

with without("rich", "opentelemetry"):  # colours, metrics of redis-py
    import redis.asyncio  # noqa: F401
    import structlog

from runyard.loopback import exempt
from runyard_common import telemetry, tracing
from runyard_common.costly import tune_process
from runyard_common.database.start_checks import Process
from runyard_common.process import Liveness, keep_files_private, notify_ready
from runyard_common.start_checks import settings_for
from runyard_common.values.errors import ConfigurationError
from runyard_scheduler.loop import Loop
from runyard_scheduler.runtime import open_duties


def main() -> None:
    """Run the duties until SIGTERM or SIGINT."""
    exempt(os.environ)
    try:
        settings = settings_for(Process.SCHEDULER)
        telemetry.configure(settings.log_level)
        tracing.start("runyard-scheduler")
        runtime, duties = open_duties(settings)
    except ConfigurationError as error:
        print(f"runyard scheduler: {error.message}", file=sys.stderr)
        sys.exit(2)  # the settings cannot work: the launcher does not start it again
    loop = Loop(duties)
    tune_process()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    structlog.get_logger("runyard.scheduler").info("The scheduler is up", action="start", duties=len(duties))
    notify_ready()
    if (liveness := Liveness(settings.alive_file)).is_watched:
        threading.Thread(target=_show_liveness, args=(loop, liveness), name="liveness", daemon=True).start()
    loop.run()
    runtime.close()
    tracing.stop()


def _show_liveness(loop: Loop, liveness: Liveness) -> None:
    """From a thread of its own: a duty may take longer than a probe waits."""
    pause = threading.Event()
    while True:
        if loop.is_alive:
            liveness.show(ready=True)
        pause.wait(Liveness.EVERY)


if __name__ == "__main__":
    # No options: everything is a RUNYARD_* setting. `--help` is answered and a misspelt option refused.
    argparse.ArgumentParser(prog="runyard scheduler", description="Run one scheduler process.").parse_args()
    keep_files_private()
    main()
