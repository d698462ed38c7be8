"""A Redis that a Sentinel watches, over TLS, is lost in the middle of runs: none of them is, and wake-ups come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard_launch.cli import doctor
from runyard_launch.cli.doctor import Verdict
from tests.fakes.authority import Authority
from tests.servers import Sentinel, ServerMissing
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinel]:
    folder = tmp_path_factory.mktemp("sentinel")
    authority = Authority(folder)
    trusted = folder / "authority.pem"
    trusted.write_text(authority.pem)
    try:
        with Sentinel(authority.certificate("localhost"), trusted).running() as running:
            yield running
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)


def waits_of_workers(sentinel: Sentinel, port: int) -> set[str]:
    """The commands in which clients of this server wait: blpop for wake-ups, brpop for messages of the broker."""
    with sentinel.client(port) as client:
        return {one["cmd"] for one in client.client_list()} & {"blpop", "brpop"}


def test_no_run_is_lost_in_a_failover_and_wake_ups_come_back(sentinel: Sentinel, tmp_path: Path) -> None:
    old, new = sentinel.servers
    with Stack(tmp_path, broker_url=sentinel.url, redis_url=sentinel.url) as stack:
        wait_until(lambda: waits_of_workers(sentinel, old) == {"blpop", "brpop"}, seconds=60)
        during = [stack.submit("@demo/sleeper", {"seconds": 4}) for _ in range(4)]
        for task_id in during:
            stack.until(task_id, "running", "completed")
        sentinel.kill(old)
        began = time.monotonic()
        during += [stack.submit("@demo/echo", {"n": n}) for n in range(10)]
        wait_until(lambda: sentinel.primary == new, seconds=60)
        promoted = time.monotonic() - began
        wait_until(lambda: waits_of_workers(sentinel, new) == {"blpop", "brpop"}, seconds=60)
        wait_until(lambda: stack.request("GET", "/readyz")[1]["status"] == "ok", seconds=60)
        back = time.monotonic() - began
        tasks = [stack.until(task_id, seconds=60) for task_id in during]
        assert {(task["status"], task["attempt"]) for task in tasks} == {("completed", 1)}
        print(f"promoted after {promoted:.1f} s, wake-ups and readiness back after {back:.1f} s")
        assert stack.run("@demo/echo", {"after": "the failover"})["status"] == "completed"
        assert {running.poll() for running in stack.processes.values()} == {None}


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (("master_name=wakes", "master_name=another"), "no master_name=another, but wakes"),
        (("of-the-servers", "wrong"), "refuses the user or password"),
        (("sentinel_password=of-the-sentinel", "sentinel_password=wrong"), "refuses the user or password"),
        (("&ssl_ca_certs=", "&ssl_none="), "certificate"),
    ],
)
def test_the_doctor_names_what_is_wrong_with_a_sentinel_url(
    sentinel: Sentinel, home: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, str], hint: str
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("RUNYARD_HOME", str(home))
    monkeypatch.setenv("RUNYARD_BROKER_URL", sentinel.url.replace(*wrong))
    found = {finding.part: finding for finding in doctor.findings()}
    for part in ("broker", "redis"):
        assert found[part].verdict is Verdict.BAD
        assert hint in found[part].text
        assert "of-the" not in found[part].text
