"""Real scheduler processes: started either way, killed in turn, and the rows say that each time fired once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard_launch.supervisor import process
from tests.chaos.schedulers import Timetable, run
from tests.servers import ValkeyServer
from tests.stack import PYTHONPATH
from tests.waiting import wait_until

CELERY = ["-m", "celery", "-A", "runyard_workers.app"]
COMMANDS = {
    "celery beat": [*CELERY, "beat"],
    "celery beat, its scheduler named": [*CELERY, "beat", "-S", "runyard_scheduler.beat:RunyardScheduler"],
    "celery worker with beat": [*CELERY, "worker", "-B"],
    "runyard scheduler": ["-m", "runyard_scheduler"],
}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "database",
    [
        pytest.param("sqlite", marks=pytest.mark.chaos),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ],
)
def test_three_schedulers_killed_in_turn_fire_every_time_once(database: str, tmp_path: Path) -> None:
    verdict = run(100, 10.0, 3, database, 0.2, tmp_path)
    print(verdict)
    assert verdict.clean, str(verdict)
    assert verdict.kills >= 1
    assert verdict.due >= 50


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", COMMANDS)
def test_a_scheduler_started_any_way_fires_and_ends_in_order(
    how: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    table = Timetable.on_sqlite(tmp_path / "runyard.db")
    env = os.environ | {
        "RUNYARD_HOME": str(tmp_path),
        "RUNYARD_BROKER_URL": valkey.url,
        "PYTHONPATH": PYTHONPATH,
    }
    log = tmp_path / "scheduler.log"
    running = process.spawn([sys.executable, *COMMANDS[how]], log=log, env=env, cwd=tmp_path)
    try:
        wait_until(lambda: "The scheduler is up" in log.read_text() or running.poll() is not None, seconds=90)
        table.fill(4, 1.1)
        (once,) = [s for kind, s in table.made[2:3] if kind == "once"]
        assert once.next_due_at is not None
        table.wait_until_done(once.next_due_at)
        verdict = table.judge(once.next_due_at)
        assert verdict.clean, f"{verdict}\n{log.read_text()[-2000:]}"
        assert verdict.due >= 1
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0, log.read_text()[-2000:]
        assert not list(tmp_path.glob("celerybeat*"))
    finally:
        process.end(running, grace=1)
        table.store.db.close()
