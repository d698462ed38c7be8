"""A worker is a Celery worker, on a real Valkey and a real RabbitMQ: wake-ups, operators' commands, shutdowns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from runyard_common.broker.application import DELIVER, DELIVERIES, FORMAT, RUNS, WAKE, application
from runyard_common.settings import Settings
from runyard_workers.bootstep import REFUSED
from tests.servers import ValkeyServer
from tests.waiting import wait_until


class Site:
    """A broker, the notes of the engines, the workers of a test, and what sends wake-ups to them."""

    def __init__(self, notes: str, broker: str | None, folder: Path) -> None:
        self.notes_url, self.broker_url, self.folder = notes, broker or notes, folder
        self.redis = redis.Redis.from_url(notes, decode_responses=True)
        self.redis.flushall()
        settings = Settings(home=folder, broker_url=self.broker_url, redis_url=notes, remote_control=True)
        self.client: Celery = application(settings)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(
        self, slots: int = 2, options: Sequence[str] = (), **env: str
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "tests.integration.worker_app", "worker"]
        given = ["-c", str(slots), "-l", "INFO", "--without-gossip", "--without-mingle", *options]
        settings = {
            "WORKER_TEST_NOTES": self.notes_url,
            "RUNYARD_HOME": str(self.folder),
            "RUNYARD_BROKER_URL": self.broker_url,
            "RUNYARD_REMOTE_CONTROL": "true",
            "RUNYARD_DRAIN_SECONDS": "20",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.folder.parent / "pycache"),
        }
        log = self.folder / f"worker-{len(self.workers)}.log"
        name = ["-n", f"worker-{len(self.workers)}@%h"]
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [*command, *given, *name], env=os.environ | settings | env, stdout=out, stderr=out
            )
        self.workers.append(worker)
        wait_until(lambda: " ready." in log.read_text() or worker.poll() is not None, seconds=90)
        assert worker.poll() is None, log.read_text()
        return worker

    def log(self, number: int = 0) -> str:
        return (self.folder / f"worker-{number}.log").read_text()

    def send(self, task: str = WAKE) -> None:
        queue = {WAKE: RUNS, DELIVER: DELIVERIES}[task]
        self.client.send_task(task, [FORMAT], queue=queue, ignore_result=True)

    def hold(self, slots: int) -> None:
        """Let the runs of the only worker occupy so many slots."""
        self.redis.set("hold", slots)
        self.wait_for("taken")

    def notes(self) -> list[str]:
        answer: Any = self.redis.lrange("notes", 0, -1)
        return list(answer)

    def wait_for(self, note: str, times: int = 1) -> None:
        wait_until(lambda: self.notes().count(note) >= times)

    def queued(self) -> int:
        """Wake-ups that any worker may take."""
        with self.client.connection_for_read() as connection:
            return int(connection.default_channel.queue_declare(RUNS, passive=True).message_count)

    def unacknowledged(self) -> int:
        """Messages that the Redis transport has handed out."""
        answer: Any = self.redis.hlen("unacked")
        return int(answer)

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait(60)
        self.client.close()
        self.redis.close()


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site(valkey: ValkeyServer, tmp_path: Path) -> Iterator[Site]:
    site = Site(valkey.url, None, tmp_path)
    yield site
    site.close()


@pytest.fixture
def rabbitmq(valkey: ValkeyServer, rabbitmq_url: str, tmp_path: Path) -> Iterator[Site]:
    site = Site(valkey.url, rabbitmq_url, tmp_path)
    yield site
    site.close()


class TestOperators:
    def test_they_see_it_answer_its_slots_and_its_queues(self, site: Site) -> None:
        site.start_worker(slots=4)
        assert site.notes() == ["started with 4"]
        site.hold(3)
        look = site.client.control.inspect(timeout=60, limit=1)
        ((name, answer),) = look.ping().items()
        assert answer == {"ok": "pong"}
        stats = look.stats()[name]
        pool = stats["pool"]
        assert pool["implementation"].endswith("solo:TaskPool")
        assert (pool["max-concurrency"], pool["slots-in-use"]) == (4, 3)
        assert stats["prefetch_count"] == 1
        assert look.active()[name] == []
        assert {queue["name"] for queue in look.active_queues()[name]} == {RUNS, DELIVERIES}
        assert {WAKE, DELIVER} <= set(look.registered()[name])
        assert "4 (solo)" in site.log()

    def test_commands_without_a_use_here_are_refused_in_a_sentence(self, site: Site) -> None:
        site.start_worker()
        for command, reason in REFUSED.items():
            given = {"task_name": WAKE, "task_id": "x", "rate_limit": "1/m", "signal": "TERM"}
            ((answer,),) = (
                one.values()
                for one in site.client.control.broadcast(command, given, reply=True, timeout=60, limit=1)
            )
            assert answer == {"error": reason}, command
        assert "Traceback" not in site.log()

    def test_its_heartbeats_list_it_in_flower(self, site: Site) -> None:
        site.start_worker()
        with site.client.connection_for_read() as connection:
            seen: list[str] = []

            def heard(event: dict[str, Any]) -> None:
                seen.append(event["hostname"])
                receiver.should_stop = True

            receiver = site.client.events.Receiver(connection, handlers={"worker-heartbeat": heard})
            receiver.capture(timeout=20, wakeup=False)
        assert seen[0].startswith("worker-0@")

    def test_autoscale_gives_the_higher_number_of_slots(self, site: Site) -> None:
        site.start_worker(options=["--autoscale=10,3"])
        assert site.notes() == ["started with 10"]

    def test_a_shutdown_by_remote_control_drains_first(self, site: Site) -> None:
        worker = site.start_worker()
        site.redis.set("drain", "0.5")
        site.client.control.shutdown()
        assert worker.wait(60) == 0
        assert site.notes()[-2:] == ["drain of 18 s", "drained"]


class TestWakeUps:
    def test_none_waits_behind_another(self, site: Site) -> None:
        _run_many(site)

    def test_a_redis_keeps_none_that_was_handed_out(self, site: Site) -> None:
        site.redis.config_resetstat()
        site.start_worker()
        for _ in range(5):
            site.send()
        site.wait_for("woken", 5)
        assert not {"cmdstat_hset", "cmdstat_hdel"} & set(site.redis.info("commandstats"))

    @pytest.mark.rabbitmq
    def test_on_rabbitmq_none_waits_behind_another(self, rabbitmq: Site) -> None:
        _run_many(rabbitmq)

    def test_a_full_worker_leaves_them_to_others_until_a_slot_is_free(self, site: Site) -> None:
        site.start_worker(slots=2)
        site.hold(2)
        time.sleep(1.2)  # a fetch that was under way is over
        for _ in range(3):
            site.send()
        time.sleep(1.2)  # longer than the transport waits for a message: it would have been fetched
        assert (site.queued(), site.unacknowledged()) == (3, 0)
        site.redis.set("hold", 1)
        site.wait_for("woken", 3)

    @pytest.mark.rabbitmq
    def test_on_rabbitmq_a_full_worker_sits_on_one(self, rabbitmq: Site) -> None:
        worker = rabbitmq.start_worker(slots=2)
        rabbitmq.hold(2)
        for _ in range(5):
            rabbitmq.send()
        wait_until(lambda: rabbitmq.queued() == 4)
        rabbitmq.redis.set("hold", 1)
        rabbitmq.wait_for("woken", 5)
        rabbitmq.redis.set("hold", 2)
        rabbitmq.wait_for("taken", 2)
        rabbitmq.send()
        wait_until(lambda: rabbitmq.queued() == 0)
        worker.terminate()
        assert worker.wait(60) == 0
        wait_until(lambda: rabbitmq.queued() == 1)  # what it sat on is for others


class TestShutdown:
    def test_sigterm_drains_within_the_grace_period(self, site: Site) -> None:
        worker = site.start_worker(slots=3)
        site.redis.set("drain", "1")
        worker.terminate()
        time.sleep(0.3)
        worker.terminate()  # a second one changes nothing, as Celery has it
        assert worker.wait(60) == 0
        assert site.notes()[-2:] == ["drain of 18 s", "drained"]

    def test_a_drain_that_does_not_end_is_cut_short(self, site: Site) -> None:
        worker = site.start_worker(RUNYARD_DRAIN_SECONDS="3")
        site.redis.set("drain", "30")
        worker.terminate()
        assert worker.wait(60) == 0
        assert site.notes()[-1] == "drain of 1 s"
        assert "drain is cut short" in site.log()

    def test_a_loop_that_is_blocked_is_left_behind(self, site: Site) -> None:
        worker = site.start_worker(RUNYARD_DRAIN_SECONDS="3")
        site.redis.mset({"drain": "30", "block": "1"})
        worker.terminate()
        assert worker.wait(60) == 0
        assert "left behind" in site.log()

    def test_sigquit_gives_runs_a_moment(self, site: Site) -> None:
        worker = site.start_worker()
        worker.send_signal(signal.SIGQUIT)
        worker.wait(60)
        assert site.notes()[-2:] == ["drain of 3 s", "drained"]

    def test_sigquit_cuts_a_warm_shutdown_short(self, site: Site) -> None:
        worker = site.start_worker()
        site.redis.set("drain", "30")
        worker.terminate()
        site.wait_for("drain of 18 s")
        worker.send_signal(signal.SIGQUIT)
        worker.wait(60)
        assert "drained" not in site.notes()


class TestBrokerRestart:
    def test_a_worker_outlives_its_broker(self, tmp_path: Path) -> None:
        broker, notes = ValkeyServer(), ValkeyServer()
        broker.start()
        notes.start()
        site = Site(notes.url, broker.url, tmp_path)
        try:
            worker = site.start_worker(slots=4)
            site.hold(4)
            site.send()  # it may be parked when its connection is lost
            broker.stop()
            wait_until(lambda: "cannot be used" in site.log() or "Connection" in site.log())
            broker.start()
            site.redis.set("hold", 0)
            woken = site.notes().count("woken")
            wait_until(lambda: _sent(site))
            site.wait_for("woken", woken + 1)
            assert worker.poll() is None
            assert "Unrecoverable" not in site.log()
            worker.terminate()
            assert worker.wait(60) == 0
        finally:
            site.close()
            broker.stop()
            notes.stop()

    @pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGQUIT])
    def test_a_worker_leaves_a_broker_that_is_frozen(self, sig: signal.Signals, tmp_path: Path) -> None:
        broker, notes = ValkeyServer(), ValkeyServer()
        broker.start()
        notes.start()
        site = Site(notes.url, broker.url, tmp_path)
        try:
            worker = site.start_worker()
            assert broker._process is not None
            broker._process.send_signal(signal.SIGSTOP)
            time.sleep(1)
            worker.send_signal(sig)
            worker.wait(30)
            assert site.notes()[-1] == "drained"
            broker._process.send_signal(signal.SIGCONT)
        finally:
            site.close()
            broker.stop()
            notes.stop()


def _run_many(site: Site) -> None:
    site.start_worker()
    for _ in range(100):
        site.send(WAKE)
        site.send(DELIVER)
    site.wait_for("woken", 100)
    site.wait_for("delivered", 100)


def _sent(site: Site) -> bool:
    try:
        site.send()
    except Exception:  # noqa: BLE001 - the broker is on its way
        return False
    return True
