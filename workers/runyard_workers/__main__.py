"""`python -m runyard_workers`: an ordinary Celery worker with Runyard's engine and queues."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays; `tune_process` turns the collector on

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

from runyard_common.process import without


def main() -> None:
    """Start the worker; arguments are passed on to `celery worker`. Its exit code is this process's."""
    # Not `celery.bin.celery`, whose other commands bring a shell, nor `app.worker_main`, which uses it.
    with without("psutil", "pygments"):  # for memory dumps and colours of commands that are not given here
        with without("opentelemetry"):  # metrics of redis-py
            import redis.asyncio  # noqa: F401
        from celery.bin.base import CLIContext
        from celery.bin.worker import worker
    from runyard_workers.app import app, refuse, runtime

    if "DEVELOPMENT_FD" in os.environ:  # `runyard dev` has started this process
        from runyard_workers.development import Development

        runtime.development = Development.of_environment()
        if runtime.development is not None:
            runtime.development.wait_to_load()
    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    no_banner = runtime.development is not None  # the terminal shows the end of the log where a worker ends
    no_color = bool(os.environ.get("NO_COLOR"))
    context = CLIContext(app=app, no_color=no_color, workdir=None, quiet=no_banner)
    try:
        worker.main(args=[*quiet, *sys.argv[1:]], prog_name="runyard worker", obj=context)
    except SystemExit as ended:
        if runtime.refused is None and isinstance(ended.code, int):
            _leave(ended.code)
        raise
    finally:
        if runtime.refused is not None:
            refuse(runtime.refused)


def _leave(code: int) -> NoReturn:
    """End the process now that all is drained and closed. The interpreter would tear down what agents and their
    libraries have imported before it ends: half a second and more, longer than a Ctrl-C leaves it."""
    atexit._run_exitfuncs()  # among them that of `logging`
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
