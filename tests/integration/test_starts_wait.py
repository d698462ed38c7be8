"""A process that starts waits for a database that goes away in the middle, at whichever step, as for one not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard import authoring
from runyard_api.state import State
from runyard_common.database import start_waits
from runyard_common.settings import Settings
from runyard_launch.supervisor import process
from runyard_workers.engine import Engine
from runyard_workers.execution import Execution
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.slots import Slots
from tests.ports import free_port
from tests.round_trips import RoundTrips
from tests.stack import PYTHONPATH, ROOT
from tests.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
MANIFEST = "name: '@default/greeter'\nversion: 1.0.0\ninstructions: Greet.\n"
#: Round trips that no start takes.
PLENTY = 200


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_waits, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(authoring, "_registry", {})  # other tests have registered agents


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Callable[[str], Settings]:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "greeter.yaml").write_text(MANIFEST)

    def for_database(url: str) -> Settings:
        given: dict[str, Any] = {"redis_url": redis_url, "broker_url": redis_url}
        return Settings(
            home=tmp_path / "home",
            database_url=url,
            agents=str(tmp_path / "agents"),
            secret_key="s" * 40,
            **given,
        )

    return for_database


async def start_worker(settings: Settings, proxy: RoundTrips) -> int:
    """What a worker's start asks of the database, which fails where the start would; its round trips."""
    execution = Execution(settings)
    await execution.open()
    await execution.publish()
    threads = RunThreads(1)
    engine = Engine(
        execution.store, execution.writer, Slots(1), 1, 15.0, execution.preparation(threads), threads,
        agents=execution.agents, brings=execution.brings,
    )  # fmt: skip
    await engine.start()
    trips = proxy.stop_cutting()
    await engine.drain(2)
    await execution.close()
    assert execution.brings == ("@default/greeter@1.0.0",)
    return trips


async def start_api(settings: Settings, proxy: RoundTrips) -> int:
    state = await State.open(settings)
    trips = proxy.stop_cutting()
    await state.close()
    return trips


@pytest.mark.parametrize("start", [start_worker, start_api])
async def test_a_start_goes_on_after_its_connection_was_cut_at_any_step(
    start: Callable[[Settings, RoundTrips], Awaitable[int]],
    settings: Callable[[str], Settings],
    migrated_database: Callable[[], str],
) -> None:
    for at in range(1, PLENTY):
        with RoundTrips(migrated_database(), cut_at=at) as proxy:
            if await start(settings(proxy.url), proxy) < at:
                break
    assert 2 < at < PLENTY - 1, "every step was cut once"


@pytest.fixture
def starting_api(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An api whose database is not there, and its address."""
    port, database_port = free_port(), free_port()
    env = os.environ | {
        "RUNYARD_HOME": str(tmp_path), "RUNYARD_PORT": str(port), "PYTHONPATH": PYTHONPATH,
        "RUNYARD_DATABASE_URL": f"postgresql://x:x@127.0.0.1:{database_port}/x",
    }  # fmt: skip
    argv = [sys.executable, "-m", "runyard_api"]
    api = process.spawn(argv, log=tmp_path / "api.log", env=env, cwd=ROOT)
    yield api, f"http://127.0.0.1:{port}"
    process.end(api, grace=5)


async def test_an_api_that_waits_for_its_database_ends_in_order_when_asked(
    starting_api: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    api, url = starting_api
    wait_until(
        lambda: "The database does not answer; waiting" in (tmp_path / "api.log").read_text(), seconds=60
    )
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/healthz")
    assert api.poll() is None
    api.send_signal(signal.SIGTERM)
    assert api.wait(30) == 0
