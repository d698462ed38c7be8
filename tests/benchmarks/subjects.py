"""The subjects of `bench_peers`: what each is, and what can be measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.benchmarks.measures import BASE


@dataclass(frozen=True)
class Subject:
    """A program of `tests/benchmarks/peers`; with `database` it gets one of its own on PostgreSQL."""

    name: str
    label: str
    program: str
    #: What is on disk before a submit returns.
    stores: str = "nothing"
    database: bool = False
    #: The virtualenv with its packages; empty: that of the tests.
    environment: str = ""
    #: Reads need an api that shows runs, and two workers a worker that is a process of its own.
    stages: tuple[str, ...] = (*BASE, "waits")
    #: The most runs at once that it is given; 0: as many as all.
    slots: int = 0
    #: What its program reads of `site`.
    options: tuple[tuple[str, str], ...] = ()


SCALED = (*BASE, "waits", "two_workers")
ALL = (*SCALED, "reads", "round_trips")
APIS = ("four_apis", "both")
PREFORK = (("BENCH_POOL", "prefork"),)
NO_RESULTS = (("BENCH_RESULTS", "0"),)


def _celery(name: str, label: str, program: str = "celery", **more: Any) -> Subject:
    """One that runs on Celery or Starlette, whose packages all of them share."""
    return Subject(name, label, program, environment="celery", **more)


def _library(name: str, label: str, **more: Any) -> Subject:
    """A library or server, with a virtualenv of its own."""
    return Subject(name, label, name, environment=name, **more)


def _runyard(name: str, label: str, **more: Any) -> Subject:
    return Subject(name, label, "runyard", stores="run, events, result", **more)


SUBJECTS = (
    _runyard("runyard-postgres", "Runyard, PostgreSQL", database=True, stages=(*ALL, *APIS)),
    _runyard("runyard-sqlite", "Runyard, SQLite", stages=(*SCALED, "reads")),
    _celery("celery", "Celery, threads, results", stages=SCALED),
    _celery("celery-bare", "Celery, threads, no results", options=NO_RESULTS),
    _celery("celery-prefork", "Celery, 8 processes, results", stages=BASE, slots=8, options=PREFORK),
    _celery("static", "Starlette that only answers", "static", stages=(*BASE, "reads")),
    _celery("plain", "Starlette + Celery", "handrolled_plain"),
    _celery(
        "durable", "Starlette + row + Celery", "handrolled_durable", stores="row", database=True, stages=ALL
    ),
    _library("procrastinate", "procrastinate", stores="job", database=True, stages=(*SCALED, "round_trips")),
    _library("saq", "saq", stages=SCALED),
    _library("arq", "arq"),
    _library("dbos", "DBOS", stores="workflow", database=True, stages=(*BASE, "waits", "round_trips")),
    _library("taskiq", "taskiq, Redis streams"),
    _library("dramatiq", "dramatiq, threads"),
    _library("huey", "huey, threads, results"),
    _library("langgraph", "LangGraph, in memory"),
    _library(
        "aegra",
        "Aegra",
        stores="run",
        database=True,
        stages=(*BASE, "reads", "round_trips"),
    ),
)
