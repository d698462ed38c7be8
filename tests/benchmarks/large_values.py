"""How late the loops of an api and of a worker are beside runs whose values have megabytes, to small ones."""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.stack import ROOT, Stack

SIZE, SMALL = 4 * 2**20, 1000
#: Seconds of a look, and between two probes.
SECONDS, PAUSE = 6.0, 0.005
#: Seconds between the end of a run and the submit of the next.
REST = 0.3


def compare(database_url: str = "") -> Iterator[str]:
    """Lines: how late each loop is beside large values, to how late it is beside small ones."""
    agents = [str(ROOT / "tests" / "benchmarks" / "probe_agents.py")]
    with (
        tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder,
        Stack(Path(folder), database_url=database_url, agents=agents) as stack,
    ):
        for size in (SMALL, SIZE):  # what is imported, prepared and compiled at first is no part of it
            _one_run(stack, size)
        small, large = _look(stack, SMALL), _look(stack, SIZE)
        for loop in small:
            of_small, of_large = small[loop], large[loop]
            shown = ", ".join(
                f"{name} {part(of_large) / max(part(of_small), 0.01):.1f} ({part(of_large):.1f} ms)"
                for name, part in (("p50", statistics.median), ("p99", _p99), ("most", max))
            )
            yield f"lateness of the {loop}'s loop beside runs with {SIZE >> 20} MB, to {SMALL} bytes: {shown}"


def _p99(found: list[float]) -> float:
    return sorted(found)[int(0.99 * len(found))]


def _look(stack: Stack, size: int) -> dict[str, list[float]]:
    """Milliseconds by which each loop was late beside such runs, one after the other."""
    # A process of its own, as this one reads the values.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        other.submit(_ping, stack.ports["api-1"], 0.0).result()
        pings = other.submit(_ping, stack.ports["api-1"], SECONDS)
        probe = stack.submit("@bench/probe", {"seconds": SECONDS, "pause": PAUSE})
        while not pings.done():
            _one_run(stack, size)
            time.sleep(REST)
        task = stack.until(probe)
        assert task["status"] == "completed", task
        return {"api": pings.result(), "worker": task["output"]}


def _one_run(stack: Stack, size: int) -> Any:
    """One run that is given, reports, returns and shows so many bytes."""
    task_id = stack.submit("@bench/large", {"bytes": size, "text": "z" * size})
    end = time.monotonic() + 60
    while stack.request("GET", f"/tasks/{task_id}/summary")[1]["status"] != "completed":
        assert time.monotonic() < end, stack.task(task_id)
        time.sleep(0.1)
    return stack.task(task_id)


def _ping(port: int, seconds: float) -> list[float]:
    """Milliseconds of each answer of the api about its health, one after the other on one connection."""
    found: list[float] = []
    end = time.monotonic() + seconds
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        while time.monotonic() < end:
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            found.append(1e3 * (time.perf_counter() - began))
            time.sleep(PAUSE)
    return found
