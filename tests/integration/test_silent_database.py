"""A PostgreSQL that neither answers nor refuses, as a host that vanished: its processes are frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit, Withdrawn
from runyard_common.database.transaction import Store, Tx
from tests.api_server import Api
from tests.servers import Postgres, fresh_database
from tests.waiting import wait_until

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this module: frozen, it would hold up everybody else's tests."""
    running = Postgres()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def url(server: Postgres) -> str:
    return fresh_database(server.url).replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def _frozen(server: Postgres) -> Iterator[None]:
    """The postmaster and each of its processes, stopped; the kernel keeps their sockets open."""
    assert server._process is not None
    postmaster = server._process.pid
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(postmaster)], capture_output=True, text=True)
    pids = [postmaster, *map(int, listed.stdout.split())]
    try:
        _signal(pids, signal.SIGSTOP)
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a backend may end at any moment
            os.kill(pid, number)


def _silent(db: Database) -> bool:
    return db.silent


def test_a_statement_on_a_frozen_server_fails_within_seconds_and_works_after_the_thaw(
    server: Postgres, url: str
) -> None:
    db = Database(url)
    with db.read() as conn:
        conn.execute(text("SELECT 1"))
    with _frozen(server):
        began = time.monotonic()
        with pytest.raises(OperationalError), db.read() as conn:
            conn.execute(text("SELECT 1"))
        assert time.monotonic() - began < 45  # it does not wait for the connection's end, which takes minutes
        assert _silent(db)
    with db.read() as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1
    assert not _silent(db)
    db.close()


def test_a_statement_under_way_when_the_server_freezes_fails_within_seconds(
    server: Postgres, url: str
) -> None:
    db = Database(url)
    ended: list[float] = []

    def wait_long() -> None:
        with pytest.raises(OperationalError), db.begin() as conn:
            conn.execute(text("SELECT pg_sleep(60)"))
        ended.append(time.monotonic())

    thread = threading.Thread(target=wait_long)
    thread.start()
    wait_until(lambda: _sleeps(db))
    with _frozen(server):
        thread.join(45)
        assert ended
    db.close()


def _sleeps(db: Database) -> bool:
    # In a transaction of its own: within one, PostgreSQL shows the activity as it was at first.
    with db.read() as conn:
        sleeping = text("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")
        return bool(conn.execute(sleeping).scalar_one())


def test_a_long_statement_of_a_server_that_answers_goes_on(url: str) -> None:
    db = Database(url)
    with db.read() as conn:
        assert conn.execute(text("SELECT 1 FROM pg_sleep(5)")).scalar_one() == 1
    assert not _silent(db)
    db.close()


def test_a_connection_whose_backend_is_gone_is_given_up_although_the_server_answers(url: str) -> None:
    """As after a failover behind one address: the new server knows nothing of the old one's sessions."""
    db = Database(url)
    with db.read() as conn:
        conn.execute(text("SELECT 1"))
    assert db._answers is not None
    assert db._answers.ask(2**30) is False
    db.close()


def test_a_command_taken_back_before_its_transaction_is_not_committed_later(
    server: Postgres, url: str
) -> None:
    db = Database(url)
    writer = GroupCommit(Store(db))
    ran: list[str] = []

    def note(tx: Tx, commands: Sequence[Any]) -> Sequence[Any]:
        ran.extend(commands)
        return [None] * len(commands)

    with _frozen(server):
        first = writer.submit(note, "first")
        wait_until(lambda: first.begun)  # type: ignore[attr-defined]
        second = writer.submit(note, "second")
        assert not writer.withdraw(first)
        assert writer.withdraw(second)
    with pytest.raises(Withdrawn):
        second.result(50)
    assert "second" not in ran
    writer.close()
    db.close()


@pytest.mark.timeout(150)
def test_every_surface_answers_503_within_seconds_while_the_database_is_frozen(
    server: Postgres, url: str, tmp_path: Path
) -> None:
    with Api(tmp_path / "home", url) as api, api.client() as client:
        client.timeout = httpx2.Timeout(40)
        run: dict[str, Any] = {"args": {}}
        requests = [
            ("GET", "/tasks/00000000-0000-7000-8000-000000000000", None),
            ("GET", "/api/v1/tasks", None),
            ("POST", "/api/v1/agents/%40demo%2Fecho/run", run),
            ("GET", "/readyz", None),
            ("GET", "/metrics", None),
            ("POST", "/api/agent/run", {"agentName": "echo", "args": {}}),
            ("POST", "/run-agent", {"message": "x"}),
            ("GET", "/api/schedules", None),
            ("GET", "/api/v3/agents", None),
        ]
        assert client.get("/api/v1/tasks").status_code == 200
        threads = threading.active_count()
        with _frozen(server), ThreadPoolExecutor(40) as pool:
            for _ in range(2):  # at first the silence has to be noticed, then it is known
                began = time.monotonic()
                answers = list(pool.map(lambda r: client.request(r[0], r[1], json=r[2]), requests * 3))
                assert time.monotonic() - began < 35
                unavailable = [a for a in answers if a.status_code not in (404, 405)]
                assert {a.status_code for a in unavailable} <= {503}, [
                    (a.url, a.status_code) for a in answers
                ]
                assert all("retry-after" in a.headers for a in unavailable)
                assert len(unavailable) >= len(requests) * 2
            assert client.get("/healthz").status_code == 200
            assert threading.active_count() < threads + 80
        wait_until(lambda: client.get("/api/v1/tasks").status_code == 200, seconds=40)
        assert client.get("/readyz").status_code == 200
