"""The proxy that counts round trips to PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.round_trips import RoundTrips

pytestmark = [pytest.mark.processes, pytest.mark.postgres]


@pytest.fixture
def counted(postgres_url: str) -> Iterator[RoundTrips]:
    with RoundTrips(postgres_url.replace("+psycopg", "")) as proxy:
        yield proxy


@pytest.fixture
def connection(counted: RoundTrips) -> Iterator[psycopg.Connection]:
    with psycopg.connect(counted.url, autocommit=True) as made:
        yield made


def test_each_statement_whose_answer_is_awaited_is_a_trip(
    counted: RoundTrips, connection: psycopg.Connection
) -> None:
    before = counted.trips
    for _ in range(3):
        connection.execute("SELECT 1").fetchone()
    assert counted.trips - before == 3


def test_begin_statement_and_commit_are_three_trips(
    counted: RoundTrips, connection: psycopg.Connection
) -> None:
    before = counted.trips
    with connection.transaction():
        connection.execute("SELECT 1")
    assert counted.trips - before == 3


def test_a_pipeline_is_one_trip(counted: RoundTrips, connection: psycopg.Connection) -> None:
    before = counted.trips
    with connection.pipeline():
        for _ in range(5):
            connection.execute("SELECT 1")
    assert counted.trips - before == 1


def test_large_rows_pass_and_count_once(counted: RoundTrips, connection: psycopg.Connection) -> None:
    before = counted.trips
    row = connection.execute("SELECT repeat(%s::text, 5000000)", ("x",)).fetchone()
    assert row
    assert len(row[0]) == 5_000_000
    assert counted.trips - before == 1


def test_closing_a_connection_is_no_trip(counted: RoundTrips) -> None:
    made = psycopg.connect(counted.url, autocommit=True)
    before = counted.trips
    made.close()
    with psycopg.connect(counted.url, autocommit=True):
        opened = counted.trips - before
    assert counted.connections == 2
    assert 1 <= opened <= 3
