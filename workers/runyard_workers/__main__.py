"""`python -m runyard_workers`: an ordinary Celery worker with Runyard's engine and queues."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays; `tune_process` turns the collector on

import sys


def main() -> None:
    """Start the worker; arguments are passed on to `celery worker`. Its exit code is this process's."""
    # Not `app.worker_main`, which forgets the exit code: the supervisor must see that a worker failed.
    from celery.bin.celery import celery

    from runyard_workers.app import refuse, runtime

    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    try:
        celery.main(
            args=["--app", "runyard_workers.app", "worker", *quiet, *sys.argv[1:]], prog_name="celery"
        )
    finally:
        if runtime.refused is not None:
            refuse(runtime.refused)


if __name__ == "__main__":
    main()
