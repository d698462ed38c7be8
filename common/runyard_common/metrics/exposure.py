"""A process shows its metrics: the registry that they are in, the port, and the file by which Prometheus finds it."""

from __future__ import annotations

import atexit
import json
import os
import socket
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, GCCollector, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from runyard_common.database.start_checks import Process
from runyard_common.metrics import families
from runyard_common.metrics.server import MetricsServer
from runyard_common.settings import Settings
from runyard_common.values import addresses

log = structlog.get_logger("runyard.metrics")

#: The folder in the home with a file of targets for each process (`file_sd_configs` of Prometheus).
TARGETS: Final = "metrics"


def registry_of(process: Process, more: Iterable[Collector] = ()) -> CollectorRegistry:
    """The metrics of a process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they would be as many series again
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    families.INFO.clear()
    families.INFO.labels(process.value, version("runyard")).set(1)
    for metric in (*families.of(process), *more):
        registry.register(metric)
    return registry


def expose(process: Process, registry: CollectorRegistry, settings: Settings) -> MetricsServer | None:
    """Serve the metrics where RUNYARD_METRICS_PORT wants them, until the process ends.

    A port that is not to be had is no reason not to work: it is logged.
    """
    if settings.metrics_listen is None:
        return None
    wanted, host = settings.metrics_listen, settings.metrics_host
    try:
        server = MetricsServer(registry, host, wanted, settings.metrics_token)
    except OSError as error:
        log.error(
            "The metrics cannot be served.", action="metrics", host=host, port=wanted, reason=str(error)
        )
        return None
    server.serve()
    reached = f"{addresses.bracketed(addresses.EVERYWHERE.get(host, host))}:{server.port}"
    log.info("The metrics are served.", action="metrics", url=f"http://{reached}/metrics")
    file = settings.home / TARGETS / f"{process}-{socket.gethostname()}-{os.getpid()}.json"
    try:
        write_target(file, reached, process)
    except OSError as error:
        log.warning("The file of targets cannot be written.", action="metrics", reason=str(error)[:200])
    atexit.register(_end, server, file, os.getpid())
    return server


def _end(server: MetricsServer, file: Path, pid: int) -> None:
    if pid == os.getpid():  # and not in a fork of the process
        file.unlink(missing_ok=True)
        server.server_close()


def write_target(file: Path, target: str, process: Process) -> None:
    """Write where a process is found, whole or not at all, and remove the files of processes that are gone."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    remove_stale(file.parent)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps([{"targets": [target], "labels": {"component": process.value}}]) + "\n")
    draft.replace(file)


def remove_stale(folder: Path, host: str | None = None) -> None:
    """Remove the files of processes of this host that are gone: one that was killed has left its own."""
    host = socket.gethostname() if host is None else host
    for file in folder.glob(f"*-{host}-*.json"):
        pid = file.stem.rpartition("-")[2]
        if pid.isdecimal() and not _lives(int(pid)):
            file.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
