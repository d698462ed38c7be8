"""What a process shows to probes and to systemd: a file's age and text, datagrams of sd_notify."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard_common.process import Liveness, notify_ready, show_liveness
from runyard_scheduler.loop import STUCK, Loop
from tests.waiting import wait_until


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that a unit of `Type=notify` reports to."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


def test_systemd_hears_that_a_process_is_ready_and_lives(systemd: socket.socket) -> None:
    notify_ready()
    assert systemd.recv(100) == b"READY=1"
    assert Liveness("").is_watched
    Liveness("").show(ready=True)
    assert systemd.recv(100) == b"WATCHDOG=1"


def test_without_anything_that_looks_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not Liveness("").is_watched
    Liveness("").show(ready=True)
    notify_ready()


def test_a_systemd_that_does_not_listen_keeps_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    notify_ready()
    Liveness("").show(ready=True)


@pytest.mark.anyio
async def test_the_file_has_the_state_and_the_time_of_the_last_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Liveness, "EVERY", 0.01)
    file, ready = tmp_path / "alive", False
    showing = asyncio.create_task(show_liveness(Liveness(str(file)), lambda: ready))
    await asyncio.to_thread(wait_until, file.exists)
    await asyncio.to_thread(wait_until, lambda: file.read_text() == "starting")
    os.utime(file, (0, 0))
    await asyncio.to_thread(wait_until, lambda: file.stat().st_mtime > 1_000)
    ready = True
    await asyncio.to_thread(wait_until, lambda: file.read_text() == "ready")
    showing.cancel()


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    Liveness(str(tmp_path / "no" / "such" / "folder")).show(ready=True)


class Stuck:
    """A duty that does not come back."""

    name = "stuck"
    every = 0.01

    def __init__(self) -> None:
        self.begun, self.end = threading.Event(), threading.Event()

    def run_once(self, now: float | None = None) -> int:
        self.begun.set()
        self.end.wait(30)
        return 0


def test_a_scheduler_whose_duty_is_stuck_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    duty = Stuck()
    loop = Loop([duty])
    running = threading.Thread(target=loop.run)
    running.start()
    duty.begun.wait(50)
    found = [loop.is_alive]
    monkeypatch.setattr("runyard_scheduler.loop.STUCK", -1.0)
    found.append(loop.is_alive)
    assert found == [True, False]
    monkeypatch.setattr("runyard_scheduler.loop.STUCK", STUCK)
    loop.stop()
    duty.end.set()
    running.join(50)
