"""The whole of Runyard through a real PgBouncer in transaction mode, with its default settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runyard_common.database.engine import Database
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError
from tests.acceptance import stepping_agents
from tests.servers import PgBouncer, ServerMissing
from tests.stack import ROOT, Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def pooler(fresh_database: Callable[[], str]) -> Iterator[PgBouncer]:
    if "pgbouncer" in os.environ.get("TEST_WITHOUT", "").split(","):
        pytest.skip("TEST_WITHOUT=pgbouncer")
    try:
        with PgBouncer(fresh_database()) as running:
            yield running
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(scope="module")
def stack(pooler: PgBouncer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Migrated through the pooler, too."""
    folder = tmp_path_factory.mktemp("pooler")
    with Stack(
        folder,
        database_url=pooler.url,
        agents=[str(stepping_agents.__file__)],
        RUNYARD_DATABASE_POOLER="transaction",
        RUNYARD_LEASE_SECONDS="6",
    ) as running:
        yield running


def test_many_runs_complete_through_the_pooler(stack: Stack) -> None:
    ids = [stack.submit("@demo/echo", {"n": n}) for n in range(30)]
    assert {stack.until(task_id)["status"] for task_id in ids} == {"completed"}


def test_a_run_asks_and_is_reviewed_through_the_pooler(stack: Stack) -> None:
    task_id = stack.submit("@demo/invoice_check", {"lines": [{"amount": 2.5}]})
    stack.until(task_id, "waiting_for_input")
    assert stack.request("POST", f"/tasks/{task_id}/message", {"message": "Berlin"})[0] in (200, 202)
    stack.until(task_id, "awaiting_review")
    assert stack.request("POST", f"/tasks/{task_id}/review", {"action": "approve"})[0] in (200, 202)
    assert stack.until(task_id)["output"]["cost_centre"] == "Berlin"


def test_a_schedule_fires_through_the_pooler(stack: Stack) -> None:
    body = {"args": {"late": True}, "schedules": [{"schedule": 1, "message": "later"}]}
    status, made = stack.request("POST", "/api/v1/agents/%40demo%2Fecho/run", body)
    assert status == 202, made
    path = f"/schedules/{made['schedules'][0]['id']}/fires"
    wait_until(lambda: stack.request("GET", f"/api/v1{path}")[1].get("data"), every=0.2)


def test_a_run_is_rescued_through_the_pooler(stack: Stack, tmp_path: Path) -> None:
    task_id = stack.submit("@test/stepping", {"until": str(tmp_path / "enough")})
    stack.until(task_id, "running")
    stack.kill("worker-1")
    (tmp_path / "enough").touch()
    stack.start("worker-1")
    task = stack.until(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 2)


def test_a_dump_through_the_pooler_leaves_its_sessions_as_they_were(
    stack: Stack, pooler: PgBouncer, tmp_path: Path
) -> None:
    dump = tmp_path / "runyard.dump"
    command = ["pg_dump", "--format", "custom", "--file", str(dump), pooler.url]  # it comes with PostgreSQL
    made = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert made.returncode == 0, made.stderr
    assert dump.stat().st_size > 10_000
    assert {stack.run("@demo/echo", {"n": n})["status"] for n in range(3)} == {"completed"}


def test_nothing_in_the_logs_speaks_of_prepared_statements(stack: Stack) -> None:
    for log in stack.logs.iterdir():
        assert "prepared statement" not in log.read_text()


def test_the_limits_hold_in_each_transaction_behind_the_pooler(pooler: PgBouncer) -> None:
    db = Database(Settings(database_url=pooler.url, database_pooler="transaction").database, pool_size=1)
    for transaction in (db.begin, db.read):
        with transaction() as conn:
            shown = {name: conn.exec_driver_sql(f"SHOW {name}").scalar_one() for name in db.limits}
        assert shown == {
            "idle_in_transaction_session_timeout": "10s",
            "statement_timeout": "1min",
            "lock_timeout": "20s",
        }
    db.close()


def test_without_the_setting_the_error_names_it(pooler: PgBouncer, home: Path) -> None:
    db = Database(Settings(database_url=pooler.url).database)
    with pytest.raises(ConfigurationError, match="RUNYARD_DATABASE_POOLER=transaction"), db.read():
        pass
    db.close()
    env = os.environ | {"RUNYARD_HOME": str(home), "RUNYARD_DATABASE_URL": pooler.url}
    ended = subprocess.run(
        [sys.executable, "-m", "runyard_common.database.migrate"],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "RUNYARD_DATABASE_POOLER=transaction" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_hosted_poolers_own_parameter_in_the_url_is_understood(pooler: PgBouncer) -> None:
    db = Database(Settings(database_url=f"{pooler.url}?pgbouncer=true&prepare_threshold=0").database)
    for _ in range(12):  # past the number of uses after which a statement would be prepared
        with db.read() as conn:
            assert conn.exec_driver_sql("SELECT 1").scalar_one() == 1
    assert db.is_pooled
    db.close()
