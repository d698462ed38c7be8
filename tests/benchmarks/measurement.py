"""One subject of `bench_peers` in one round: its stages, from empty servers to figures."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis

from tests.benchmarks.figures import figures
from tests.benchmarks.peers import usage
from tests.benchmarks.program import Place, Program, started
from tests.benchmarks.subjects import Subject
from tests.round_trips import RoundTrips
from tests.servers import Postgres, ValkeyServer, fresh_database

Report = dict[str, Any]
#: Stages that are `throughput` with more processes.
SCALED_TO = {"two_workers": {"workers": 2}, "four_apis": {"apis": 4}, "both": {"apis": 4, "workers": 2}}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    rounds: int = 3
    runs: int = 2000
    #: Seconds of submitting them, after which those of a slow subject are enough.
    submit_seconds: float = 10.0
    connections: int = 32
    #: Runs at rest, fewer where they would take more than these seconds.
    samples: int = 40
    sample_seconds: float = 5.0
    rate: float = 50.0
    accept_seconds: float = 6.0
    slots: int = 100
    #: Runs of one second at once, in a worker with as many slots.
    waits: int = 1000
    reads: int = 2000
    #: Seconds without load before memory is read, and in which the trips without a run are counted.
    rest: float = 1.0


@dataclass(frozen=True)
class Servers:
    """What the subjects share."""

    postgres: Postgres
    valkey: ValkeyServer

    def cpu(self, program: Program) -> float:
        """Seconds of processor that they have used: of this process's children those that are not the subject's."""
        others = {os.getpid(), *usage.tree([program.pid])}
        return usage.cpu(set(usage.tree([os.getpid()])) - others)


@contextmanager
def servers() -> Iterator[Servers]:
    """PostgreSQL as in production, and a Valkey."""
    found = Servers(Postgres(fsync="on", full_page_writes="on", shared_buffers="128MB"), ValkeyServer())
    try:
        found.postgres.start()
        found.valkey.start()
        yield found
    finally:
        found.postgres.stop()
        found.valkey.stop()


class Measurement:
    """Starts the subject as often as the stages need it to."""

    def __init__(self, subject: Subject, size: Size, shared: Servers, folder: Path) -> None:
        self._subject, self._size, self._shared, self._folder = subject, size, shared, folder
        self.versions: dict[str, str] = {}

    def measure(self, stages: Collection[str]) -> dict[str, float]:
        """The figures of these stages, as far as the subject has them."""
        stages = {*stages, *(["memory"] if "waits" in stages else [])}  # what the waits add to
        wanted = [stage for stage in self._subject.stages if stage in stages]
        reports: dict[str, Report] = {}
        shared = {
            "memory": self._memory,
            "throughput": self._throughput,
            "latency": self._latency,
            "accept": self._accept,
            "reads": self._reads,
        }
        if any(stage in shared for stage in wanted):
            with self._prepared("shared") as program:
                reports |= {stage: run(program) for stage, run in shared.items() if stage in wanted}
        separate = {"waits": self._waits, "round_trips": self._round_trips}
        separate |= {name: partial(self._scaled, name, **place) for name, place in SCALED_TO.items()}
        return figures(reports | {stage: run() for stage, run in separate.items() if stage in wanted})

    @contextmanager
    def _prepared(self, name: str, **place: Any) -> Iterator[Program]:
        """The subject after its first runs on empty servers."""
        with Redis.from_url(self._shared.valkey.url) as redis:
            redis.flushall()
        found = Place(self._folder / name, self._shared.valkey.url, slots=self._size.slots)
        if self._subject.database and "database" not in place:
            place["database"] = fresh_database(self._shared.postgres.url)
        with started(self._subject, replace(found, **place)) as program:
            self.versions = program.report("prepare")["versions"]
            yield program

    def _memory(self, program: Program) -> Report:
        return program.report("rest", seconds=self._size.rest)

    def _throughput(self, program: Program) -> Report:
        if not usage.AVAILABLE:
            return self._load(program)
        before = self._shared.cpu(program)
        report = self._load(program)
        return report | {"servers_cpu": self._shared.cpu(program) - before}

    def _load(self, program: Program) -> Report:
        size = self._size
        return program.report(
            "throughput", runs=size.runs, connections=size.connections, limit=size.submit_seconds
        )

    def _latency(self, program: Program) -> Report:
        return program.report("latency", samples=self._size.samples, limit=self._size.sample_seconds)

    def _accept(self, program: Program) -> Report:
        return program.report("accept", rate=self._size.rate, duration=self._size.accept_seconds)

    def _reads(self, program: Program) -> Report:
        return program.report("reads", requests=self._size.reads, connections=self._size.connections)

    def _waits(self) -> Report:
        with self._prepared("waits", slots=self._size.waits) as program:
            return program.report("waits", runs=self._size.waits, connections=self._size.connections)

    def _scaled(self, name: str, **place: int) -> Report:
        with self._prepared(name, **place) as program:
            return self._load(program)

    def _round_trips(self) -> Report:
        """One run at a time, less the trips that the same time without runs has."""
        database = fresh_database(self._shared.postgres.url)
        with (
            RoundTrips(database) as counted,
            self._prepared("trips", database=counted.url, database_of_load=database) as program,
        ):
            time.sleep(self._size.rest)
            idle = counted.trips
            time.sleep(self._size.rest)
            idle = counted.trips - idle
            first, began = counted.trips, time.monotonic()
            report = self._latency(program)
            time.sleep(self._size.rest)  # for what is written after the end
            seconds = time.monotonic() - began
            return report | {"trips": counted.trips - first - idle * seconds / self._size.rest}
