"""`python -m workers`: an ordinary Celery worker with Runyard's pool and queues."""

from __future__ import annotations

import sys

from common.domain.errors import ConfigurationError


def main() -> None:
    """Start the worker; arguments are passed on to `celery worker`. Its exit code is this process's."""
    try:
        import workers.app  # noqa: F401 - settings that cannot work are told in a sentence
    except ConfigurationError as error:
        print(f"runyard worker: {error.message}", file=sys.stderr)
        sys.exit(2)  # the settings cannot work: the launcher does not start it again
    # Not `app.worker_main`, which forgets the exit code: whoever starts workers must see that one failed.
    from celery.bin.celery import celery

    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    celery.main(args=["--app", "workers.app", "worker", *quiet, *sys.argv[1:]], prog_name="celery")


if __name__ == "__main__":
    main()
