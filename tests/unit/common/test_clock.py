"""The database's clock as a process knows it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from runyard_common.clock import DatabaseClock
from runyard_common.database.engine import Database


class Host:
    """A host's two clocks: one that can be set, one that only passes."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.seconds = 1000.0

    def wall(self) -> float:
        return 1_800_000_000.0 + self.seconds + self.ahead

    def passed(self) -> float:
        return self.seconds


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def clock(host: Host) -> DatabaseClock:
    return DatabaseClock(wall=host.wall, passed=host.passed)


def test_before_the_first_sample_the_host_s_time_is_used(clock: DatabaseClock, host: Host) -> None:
    assert clock.now() == host.wall()
    assert clock.offset_s == 0


def test_it_goes_on_from_the_last_sample_against_jumps_of_the_host_s_clock(
    clock: DatabaseClock, host: Host
) -> None:
    clock.observe(5000.0)
    host.seconds += 7
    host.ahead = 3600

    assert clock.now() == pytest.approx(5007.0)
    assert clock.offset_s == pytest.approx(host.wall() - 5007.0)


def test_a_sample_that_took_long_does_not_replace_a_quick_one(clock: DatabaseClock, host: Host) -> None:
    clock.observe(5000.0, 0.001)
    host.seconds += 30
    clock.observe(5001.0, 29.0)  # the process was frozen after the database had answered

    assert clock.now() == pytest.approx(5030.0, abs=0.01)


def test_a_later_sample_replaces_an_old_one(clock: DatabaseClock, host: Host) -> None:
    clock.observe(5000.0, 0.001)
    host.seconds += 10
    clock.observe(9000.0, 0.05)  # the database's clock was set

    assert clock.now() == pytest.approx(9000.0, abs=0.1)


def test_a_clock_more_than_two_seconds_off_is_logged_once_and_so_is_its_return(
    clock: DatabaseClock, host: Host
) -> None:
    clock.observe(host.wall())
    host.ahead = 3600
    with capture_logs() as logs:
        for _ in range(3):
            host.seconds += 1
            clock.observe(host.wall() - host.ahead)
        host.ahead = 0.5
        host.seconds += 1
        clock.observe(host.wall() - host.ahead)

    assert [(log["log_level"], log["action"]) for log in logs] == [("warning", "clock"), ("info", "clock")]
    assert logs[0]["seconds"] == pytest.approx(3600)


def test_each_transaction_feeds_the_clock_of_its_database() -> None:
    db = Database("sqlite://")
    with db.begin() as conn:
        now = db.now(conn)

    assert db.clock.now() == pytest.approx(now, abs=1)
    db.close()
