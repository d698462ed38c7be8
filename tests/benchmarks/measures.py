"""What is measured: figures in the order of the tables, the stages that take them, and what the project aims at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A figure of a subject, taken by a stage."""

    name: str
    stage: str
    label: str
    unit: str
    digits: int = 1


@dataclass(frozen=True)
class Table:
    """Measures that are shown beside each other."""

    title: str
    measures: tuple[Measure, ...]


TABLES = (
    Table(
        "Runs",
        (
            Measure("throughput", "throughput", "no-op runs, end to end", "/s", 0),
            Measure("latency", "latency", "submit to the handler's first line at rest, p50", "ms"),
            Measure("accept_p50", "accept", "accept at 50/s, p50", "ms"),
            Measure("accept_p99", "accept", "accept at 50/s, p99", "ms"),
            Measure("waits", "waits", "1,000 runs that wait a second, one worker", "s"),
        ),
    ),
    Table(
        "What they cost",
        (
            Measure("cpu_saturated", "throughput", "CPU of its processes a run, saturated", "ms", 2),
            Measure("cpu_steady", "accept", "CPU of its processes a run, at 50/s", "ms", 2),
            Measure("servers_cpu", "throughput", "CPU of PostgreSQL and Valkey a run, saturated", "ms", 2),
            Measure("client_cpu", "throughput", "CPU of the load a run, saturated", "ms", 2),
            Measure("memory", "memory", "memory at rest (PSS)", "MiB", 0),
            Measure("waits_memory", "waits", "memory that each of 1,000 waiting runs adds", "KiB", 0),
        ),
    ),
    Table(
        "Reads, trips and workers",
        (
            Measure("reads", "reads", "GET of a run, 32 connections", "/s", 0),
            Measure("round_trips", "round_trips", "round trips to PostgreSQL a run, at rest", "trips"),
            Measure("two_workers", "two_workers", "no-op runs with two workers", "/s", 0),
            Measure("four_apis", "four_apis", "no-op runs with four apis behind one port", "/s", 0),
            Measure("both", "both", "no-op runs with both", "/s", 0),
        ),
    ),
)
MEASURES = tuple(measure for shown in TABLES for measure in shown.measures)
#: These and reads take figures of one start of the subject; each of the others starts it once more.
BASE = ("memory", "throughput", "latency", "accept")
STAGES = (*BASE, "reads", "waits", "two_workers", "four_apis", "both", "round_trips")


@dataclass(frozen=True)
class Goal:
    """Runyard's median to the best of `others`, which is the most where `most`, else the least."""

    label: str
    ours: tuple[str, str]
    others: tuple[tuple[str, str], ...]
    goal: str
    most: bool = False


PG, LITE = "runyard-postgres", "runyard-sqlite"


def _of(measure: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, measure) for name in names)


def _goal(label: str, measure: str, names: tuple[str, ...], goal: str, *, most: bool = False) -> Goal:
    return Goal(label, (PG, measure), _of(measure, *names), goal, most)


ASYNCIO = ("saq", "arq", "taskiq")
GOALS = (
    _goal("runs/s to Celery (threads, results)", "throughput", ("celery",), "≥ 3", most=True),
    _goal("runs/s to the hand-rolled durable stack", "throughput", ("durable",), "≥ 6", most=True),
    _goal("runs/s to DBOS", "throughput", ("dbos",), "≥ 3.5", most=True),
    _goal("runs/s to procrastinate", "throughput", ("procrastinate",), "≥ 4.5", most=True),
    _goal("runs/s to the best of saq, arq, taskiq", "throughput", ASYNCIO, "≥ 1.3", most=True),
    _goal("runs/s to the best of dramatiq, huey", "throughput", ("dramatiq", "huey"), "≥ 1.0", most=True),
    _goal("submit → first line at rest to Celery", "latency", ("celery",), "≤ 1.5"),
    _goal("submit → first line at rest to the durable stack", "latency", ("durable",), "≤ 0.6"),
    _goal("accept at 50/s, p50, to the durable stack", "accept_p50", ("durable",), "≤ 0.7"),
    _goal("accept at 50/s, p99, to the durable stack", "accept_p99", ("durable",), "≤ 0.7"),
    Goal("CPU a run at 50/s to saturated", (PG, "cpu_steady"), ((PG, "cpu_saturated"),), "≤ 2"),
    Goal("round trips to PostgreSQL a run", (PG, "round_trips"), (), "≤ 5"),
    _goal("1,000 waits of a second to the best of arq, saq, taskiq", "waits", ASYNCIO, "≤ 0.75"),
    _goal("memory a waiting run to the best of arq, saq, taskiq", "waits_memory", ASYNCIO, "≤ 1.0"),
    _goal("GET of a run to a static Starlette 200", "reads", ("static",), "≥ 0.4", most=True),
    Goal("SQLite, runs/s to PostgreSQL", (LITE, "throughput"), ((PG, "throughput"),), "≥ 0.8"),
    Goal("two workers to one, runs/s", (PG, "two_workers"), ((PG, "throughput"),), "the curve"),
    Goal("four apis to one, runs/s", (PG, "four_apis"), ((PG, "throughput"),), "the curve"),
    Goal(
        "four apis and two workers to one of each, runs/s", (PG, "both"), ((PG, "throughput"),), "the curve"
    ),
)
