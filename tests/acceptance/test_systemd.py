"""The units of deploy/systemd: systemd's own checkers read them, and their commands run as they are written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.ports import free_port
from tests.stack import ROOT
from tests.waiting import wait_until

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PROGRAM = "/opt/runyard/bin/runyard"
RUNYARD = Path(sys.executable).parent / "runyard"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def unit(name: str) -> dict[str, list[str]]:
    """The keys of a unit; a key may be there several times."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "deploy" / "systemd" / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, with a program that is there in place of the installed one."""
    if "systemd" in os.environ.get("TEST_WITHOUT", "").split(","):
        pytest.skip("TEST_WITHOUT=systemd")
    assert shutil.which("systemd-analyze"), (
        "systemd-analyze is not installed: tools/test-servers.sh brings it, TEST_WITHOUT=systemd does without"
    )
    made = tmp_path_factory.mktemp("units")
    for file in (*UNITS, ROOT / "deploy" / "systemd" / "runyard.target"):
        (made / file.name).write_text(file.read_text().replace(PROGRAM, str(RUNYARD)))
    return made


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_reads_them_without_a_word(folder: Path) -> None:
    names = [folder / file.name.replace("@", "@1") for file in UNITS]
    done = analyze("verify", "--man=no", folder / "runyard.target", *names)
    ours = [line for line in done.stderr.splitlines() if "runyard" in line]
    assert (done.returncode, ours) == (0, [])


def test_a_mistake_in_a_unit_is_found(folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.service"
    text = (folder / "runyard-api.service").read_text()
    wrong.write_text(text.replace("WatchdogSec=60", "WatchdogSecs=60"))
    assert "WatchdogSecs" in analyze("verify", "--man=no", wrong).stderr


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_what_a_process_may_do_is_little(folder: Path, file: Path) -> None:
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", folder / file.name)
    assert done.returncode == 0, done.stdout[-1500:]


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_their_rights_are_the_same(file: Path) -> None:
    marker = "# What the process may do."
    others = {other.read_text().partition(marker)[2].partition("\n[Install]")[0].strip() for other in UNITS}
    assert len(others) == 1
    assert unit(file.name)["User"] == ["runyard"]


def test_a_unit_waits_as_long_as_its_process_needs_to_stop() -> None:
    from runyard_common.settings import Settings

    drain = Settings.model_fields["drain_seconds"].default
    (worker,) = unit("runyard-worker@.service")["TimeoutStopSec"]
    assert int(worker) >= drain + 10
    assert int(unit("runyard-api.service")["TimeoutStopSec"][0]) >= 10
    assert int(unit("runyard-scheduler.service")["TimeoutStopSec"][0]) >= 10


class Running:
    """A unit's process, and what it has reported to systemd."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name, self.seen = name, ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        address = folder / f"{name}.socket"
        self._socket.bind(str(address))
        keys = unit(name)
        (line,) = keys["ExecStart"]
        program, *words = shlex.split(line.replace("%i", "1").replace("%%", "%"))
        assert program == PROGRAM
        given = dict(pair.split("=", 1) for pair in shlex.split(keys["Environment"][0]))
        # In the folder of the test, as systemd's StateDirectory is the home of the units.
        env = {"PATH": os.environ["PATH"]} | environment | given | {"RUNYARD_HOME": str(folder / "home")}
        if keys["Type"] == ["notify"]:
            env["NOTIFY_SOCKET"] = str(address)
        self.log = folder / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [RUNYARD, *words], env=env, cwd=folder, stdout=log, stderr=log, umask=int(keys["UMask"][0], 8)
            )

    def has_reported(self, text: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        while True:
            try:
                self.seen += self._socket.recv(100).decode() + "\n"
            except BlockingIOError:
                return text in self.seen

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._socket.close()


@pytest.fixture
def environment(fresh_database: Callable[[], str], valkey_url: str) -> dict[str, str]:
    """What /etc/runyard/runyard.env has, of the servers of the tests."""
    example = (ROOT / "deploy" / "systemd" / "runyard.env.example").read_text()
    names = re.findall(r"^(\w+)=", example, re.MULTILINE)
    given = {
        "RUNYARD_PUBLIC_URL": "https://agents.example.com", "RUNYARD_TRUSTED_PROXIES": "127.0.0.1",
        "RUNYARD_DATABASE_URL": fresh_database(), "RUNYARD_REDIS_URL": valkey_url,
        "RUNYARD_BROKER_URL": valkey_url, "RUNYARD_SECRET_KEY": "s" * 40, "RUNYARD_JWT_SECRET": "j" * 40,
        "RUNYARD_AGENTS": str(ROOT / "examples"), "RUNYARD_MODEL": "",
    }  # fmt: skip
    assert set(names) == given.keys()
    return given | {"RUNYARD_PORT": str(free_port())}


@pytest.fixture
def running(tmp_path: Path, environment: dict[str, str]) -> Iterator[dict[str, Running]]:
    (tmp_path / "home").mkdir(mode=0o700)
    migrated = Running("runyard-migrate.service", tmp_path, environment)
    assert migrated.process.wait(90) == 0, migrated.log.read_text()
    migrated.stop()
    names = ("runyard-api.service", "runyard-worker@.service", "runyard-scheduler.service")
    found = {name: Running(name, tmp_path, environment) for name in names}
    try:
        yield found
    finally:
        ended = {name: one.stop() for name, one in found.items()}
    assert ended == dict.fromkeys(names, 0)


@pytest.mark.postgres
def test_their_commands_serve_and_report_to_systemd(
    running: dict[str, Running], environment: dict[str, str], tmp_path: Path
) -> None:
    for one in running.values():
        assert wait_until(partial(one.has_reported, "READY=1"), seconds=90)
        assert wait_until(partial(one.has_reported, "WATCHDOG=1"), seconds=60)
    key = (tmp_path / "home" / "admin.key").read_text().strip()
    base = f"http://127.0.0.1:{environment['RUNYARD_PORT']}"
    with httpx2.Client(base_url=base, headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
        run = client.post("/api/v1/agents/%40demo%2Fecho/run", json={"args": {"n": 1}}).json()
        task = wait_until(lambda: _ended(client, run["task_id"]), seconds=60)
        assert (task or {}).get("status") == "completed"


def _ended(client: httpx2.Client, task: str) -> dict[str, str] | None:
    found: dict[str, str] = client.get(f"/tasks/{task}", params={"wait": 20}).json()
    return found if found["status"] in ("completed", "failed", "stopped") else None
