"""How often a run waits for PostgreSQL, from the request to its end, when it is the only one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.round_trips import RoundTrips
from tests.stack import Stack

pytestmark = [pytest.mark.processes, pytest.mark.postgres, pytest.mark.timeout(240)]

#: Statements are prepared once they were sent five times on a connection.
WARM_UP, SAMPLES = 10, 15
QUIET = 0.1  # seconds


@pytest.fixture
def url(fresh_database: Callable[[], str]) -> str:
    return fresh_database().replace("+psycopg", "")


@pytest.fixture
def counted(url: str) -> Iterator[RoundTrips]:
    with RoundTrips(url) as proxy:
        yield proxy


def test_a_run_takes_at_most_four_round_trips(tmp_path: Path, url: str, counted: RoundTrips) -> None:
    # A scheduler's looks are no part of a run; a worker's heartbeats are few, and a median leaves them out.
    with (
        Stack(tmp_path, database_url=counted.url, schedulers=0) as stack,
        psycopg.connect(url, autocommit=True) as direct,
    ):
        trips = [_trips(stack, direct, counted) for _ in range(WARM_UP + SAMPLES)][WARM_UP:]
    assert statistics.median(trips) <= 4, trips


def _wait_until_quiet(counted: RoundTrips) -> None:
    """Return when what the last run left to do is done: nothing was sent for ten times as long as it takes."""
    quiet = time.monotonic() + QUIET
    seen = counted.trips
    while time.monotonic() < quiet:
        time.sleep(0.01)
        if counted.trips != seen:
            seen, quiet = counted.trips, time.monotonic() + QUIET


def _trips(stack: Stack, direct: psycopg.Connection, counted: RoundTrips) -> int:
    _wait_until_quiet(counted)
    before = counted.trips
    task_id = stack.submit("@demo/echo", {"a": 1})
    deadline = time.monotonic() + 60
    while not direct.execute(
        "SELECT 1 FROM tasks WHERE id = %s AND finished_at IS NOT NULL", (task_id,)
    ).fetchone():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return counted.trips - before
