"""`python -m workers`: an ordinary Celery worker with Runyard's pool and queues."""

from __future__ import annotations

import sys

from common.domain.errors import ConfigurationError


def main() -> None:
    """Start the worker; arguments are passed on to `celery worker`."""
    try:
        from workers.app import app
    except ConfigurationError as error:
        print(f"runyard worker: {error.message}", file=sys.stderr)
        sys.exit(2)  # the settings cannot work: the launcher does not start it again
    app.worker_main(
        ["worker", "--loglevel", "WARNING", "--without-gossip", "--without-mingle", *sys.argv[1:]]
    )


if __name__ == "__main__":
    main()
