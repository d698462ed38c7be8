"""`python -m workers`: an ordinary Celery worker with Runyard's pool and queues."""

from __future__ import annotations

import sys
from typing import NoReturn

from common.domain.errors import ConfigurationError


def main() -> None:
    """Start the worker; arguments are passed on to `celery worker`. Its exit code is this process's."""
    try:
        from workers.app import runtime
    except ConfigurationError as error:
        _refuse(error)
    # Not `app.worker_main`, which forgets the exit code: whoever starts workers must see that one failed.
    from celery.bin.celery import celery

    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    try:
        celery.main(args=["--app", "workers.app", "worker", *quiet, *sys.argv[1:]], prog_name="celery")
    finally:
        if runtime.refused is not None:
            _refuse(runtime.refused)


def _refuse(error: ConfigurationError) -> NoReturn:
    """The settings cannot work: the last line says why, and the launcher does not start this process again."""
    print(f"runyard worker: {error.message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
