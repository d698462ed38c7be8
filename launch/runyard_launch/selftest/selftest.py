"""The whole selftest: what is started, what is tried, and what is ended again, also after Ctrl-C."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.rules.caps import Caps
from runyard_common.identity.service import identity
from runyard_common.settings import Settings
from runyard_common.values import broker_urls
from runyard_common.values.errors import RunyardError
from runyard_launch.selftest import checks, organisation
from runyard_launch.selftest.canaries import Canaries, is_of_selftest, wait_for
from runyard_launch.selftest.checks import Site
from runyard_launch.selftest.forwarder import Forwarder
from runyard_launch.selftest.processes import Processes
from runyard_launch.selftest.report import Line

_PORTS: Final = {"redis": 6379, "amqp": 5672}
#: Seconds for which processes may take to start on a busy machine.
_START: Final = 90.0
Progress = Callable[[str], None]


def usual_seconds(settings: Settings) -> int:
    """About how long it takes on a deployment that is well."""
    return round(35 + settings.lease_seconds + checks.AWAY)


def selftest(settings: Settings, progress: Progress) -> Generator[Line, None, None]:
    """Try everything, a line after the other. `progress` gets a sentence before each wait.

    Call it from the main thread: its processes end with that. Close the iterator to end them earlier.
    """
    with ExitStack() as ending, tempfile.TemporaryDirectory(prefix="runyard-selftest-") as folder:
        db = Database(settings.database)
        ending.callback(db.close)
        store = Store(db, caps=Caps.of(settings))
        canaries = Canaries(store, "", Path(folder))
        progress("making sure that no other selftest is under way")
        if not wait_for(lambda: not any(map(is_of_selftest, canaries.workers())), 2 * settings.lease_seconds):
            yield Line("selftest", "failed", "another selftest is under way: wait for its end")
            return
        own = organisation.opened(store, identity.sealer(settings))
        canaries.org_id = own.id
        ending.callback(organisation.close, store, own.id)
        forwarder, broker_url = _forwarder(settings)
        if forwarder is not None:
            ending.callback(forwarder.close)
        processes = Processes(Path(folder), own.id, broker_url)
        ending.callback(processes.end)
        ending.enter_context(_ends_on_sigterm())
        yield from _tried(Site(settings, canaries, own, processes, forwarder), progress)
        progress("ending its processes and emptying its organisation")


def _tried(site: Site, progress: Progress) -> Iterator[Line]:
    processes = site.processes
    progress("starting two workers of its own")
    for name in ("worker-1", "worker-2"):
        processes.start_worker(name)

    def enlisted() -> bool:
        there = {worker.pid for worker in site.canaries.workers() if is_of_selftest(worker)}
        return there >= processes.pids().keys() or bool(processes.ended())

    if not wait_for(enlisted, _START) or processes.ended():
        yield Line("selftest", "failed", f"its workers did not start: {_last_line(processes)}")
        return
    promises: list[tuple[str, Callable[[Site], Line]]] = [
        ("looking for the deployment's workers", checks.workers),
        ("submitting a run to the api", checks.api),
        ("submitting runs", checks.canary),
        ("calling back, to a receiver that fails at first", checks.webhooks),
        ("letting a schedule fire", lambda site: checks.schedule(site, "as it is")),
        (f"killing a worker; its lease lasts {site.settings.lease_seconds:g} s", checks.killed_worker),
        (f"cutting the broker off for {checks.AWAY:g} s", checks.broker_cut),
    ]
    for doing, check in promises:
        progress(doing)
        yield _line(check, site)
    progress("letting a schedule fire beside one more scheduler")
    processes.start_scheduler("scheduler")
    if not wait_for(lambda: processes.schedules("scheduler") or "scheduler" in processes.ended(), _START):
        yield Line("schedule, one more", "warning", "not tried: its scheduler did not start")
        return
    yield _line(lambda site: checks.schedule(site, "one more"), site)


def _line(check: Callable[[Site], Line], site: Site) -> Line:
    """What a check found; what it could not try is a line, too, and the others go on."""
    try:
        return check(site)
    except (RunyardError, OSError) as error:
        return Line("selftest", "failed", f"{type(error).__name__}: {error}")


def _last_line(processes: Processes) -> str:
    logs = [line for name in processes.running for line in processes.log(name).strip().splitlines()]
    return logs[-1][:300] if logs else "they wrote nothing"


def _forwarder(settings: Settings) -> tuple[Forwarder | None, str | None]:
    """A forwarder in front of the broker, and the broker's URL by it; None where it cannot be."""
    server = broker_urls.broker(settings.broker)
    parts = urlsplit(server.url)
    if server.scheme not in _PORTS or not parts.hostname or "," in parts.netloc:
        return None, None
    forwarder = Forwarder((parts.hostname, parts.port or _PORTS[server.scheme]))
    user, at, _ = parts.netloc.rpartition("@")
    return forwarder, parts._replace(netloc=f"{user}{at}127.0.0.1:{forwarder.port}").geturl()


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """A supervisor's SIGTERM ends the selftest as Ctrl-C does; a Ctrl-C while it ends does not keep it from that."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
