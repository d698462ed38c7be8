"""The asyncio pool in real Celery workers, on a real Valkey and a real RabbitMQ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, chain
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from celery.states import READY_STATES

from tests.servers import ValkeyServer


def wait_until(condition: Callable[[], Any], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class Site:
    """A broker, the notes of the tasks, the workers of a test, and a client that sends to them."""

    def __init__(self, notes: str, broker: str | None, folder: Path) -> None:
        self.notes_url, self.broker_url, self.folder = notes, broker or notes, folder
        self.redis = redis.Redis.from_url(notes, decode_responses=True)
        self.redis.flushall()
        # Results are read, not awaited: what awaits them stays subscribed to a server that the test ends.
        self.client = Celery(broker=self.broker_url, set_as_current=False)
        self.results = Celery(broker=self.broker_url, backend=notes, set_as_current=False).backend
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self, slots: int = 2, app: str = "app") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", f"tests.integration.pool_app:{app}", "worker"]
        options = ["-c", str(slots), "-l", "INFO", "--without-gossip", "--without-mingle"]
        settings = {"POOL_TEST_BROKER": self.broker_url, "POOL_TEST_NOTES": self.notes_url}
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.folder.parent / "pycache")}
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [*command, *options], env={**os.environ, **settings, **compiled}, stdout=out, stderr=out
            )
        self.workers.append(worker)
        wait_until(lambda: " ready." in log.read_text() or worker.poll() is not None, 30)
        assert worker.poll() is None, log.read_text()
        return worker

    def log(self) -> str:
        return (self.folder / "worker-0.log").read_text()

    def send(self, task: str, *args: Any, **options: Any) -> str:
        return str(self.client.send_task(task, args, **options).id)

    def status(self, task_id: str) -> str:
        return str(self.results.get_task_meta(task_id)["status"])

    def result(self, task_id: str, seconds: float = 15) -> Any:
        """What the task returned; raises what it raised, or what Celery recorded."""
        wait_until(lambda: self.status(task_id) in READY_STATES, seconds)
        outcome = self.results.get_task_meta(task_id)["result"]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def notes(self) -> list[str]:
        answer: Any = self.redis.lrange("notes", 0, -1)
        return list(answer)

    def wait_for(self, note: str, times: int = 1) -> None:
        wait_until(lambda: self.notes().count(note) >= times)

    def queued(self) -> int:
        """Messages that any worker may take."""
        with self.client.connection_for_read() as connection:
            return int(connection.default_channel.queue_declare("celery", passive=True).message_count)

    def unacknowledged(self) -> int:
        """Messages that the Redis transport has handed out."""
        answer: Any = self.redis.hlen("unacked")
        return int(answer)

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait(10)
        self.client.close()
        self.results.client.close()
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


@pytest.fixture(scope="class")
def shared(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(valkey.url, None, tmp_path_factory.mktemp("shared"))
    site.start_worker(slots=4)
    yield site
    site.close()


class TestInOneWorker:
    def test_tasks_of_both_kinds_link_to_each_other(self, shared: Site) -> None:
        link = chain(shared.client.signature("add", (2, 3)), shared.client.signature("describe"))
        assert shared.result(link.apply_async().id) == "5 from its parent: True"

    def test_the_loop_was_announced_on_the_loop(self, shared: Site) -> None:
        assert shared.notes()[0] == "loop started True True"

    def test_a_task_may_retry_itself(self, shared: Site) -> None:
        assert shared.result(shared.send("third_time_lucky")) == 2

    def test_an_error_is_retried_automatically_and_then_reported(self, shared: Site) -> None:
        with pytest.raises(ConnectionError):
            shared.result(shared.send("refused"))
        assert shared.notes().count("refused") == 3

    def test_a_soft_time_limit_fails_the_task(self, shared: Site) -> None:
        with pytest.raises(SoftTimeLimitExceeded):
            shared.result(shared.send("sleep", 30, soft_time_limit=0.2))

    def test_a_hard_time_limit_fails_the_task(self, shared: Site) -> None:
        woken = shared.notes().count("woken")
        with pytest.raises(TimeLimitExceeded):
            shared.result(shared.send("sleep", 30, time_limit=0.2))
        shared.wait_for("woken", woken + 1)

    def test_revoke_terminates_one_task_in_place(self, shared: Site) -> None:
        asleep = shared.notes().count("asleep")
        revoked, other = shared.send("sleep", 30), shared.send("sleep", 1)
        shared.wait_for("asleep", asleep + 2)
        shared.client.control.revoke(revoked, terminate=True)
        with pytest.raises(TaskRevokedError):
            shared.result(revoked)
        assert shared.result(other) == "slept"

    def test_a_message_past_its_expiry_is_not_run(self, shared: Site) -> None:
        with pytest.raises(TaskRevokedError):
            shared.result(shared.send("sleep", 0, expires=-1))

    def test_operators_see_and_resize_it(self, shared: Site) -> None:
        control = shared.client.control
        look = control.inspect(timeout=5, limit=1)
        ((name, answer),) = look.ping().items()
        assert answer == {"ok": "pong"}
        asleep = shared.notes().count("asleep")
        task = shared.send("sleep", 30)
        shared.wait_for("asleep", asleep + 1)
        assert [request["id"] for request in look.active()[name]] == [task]
        pool = look.stats()[name]["pool"]
        assert pool["implementation"].endswith("AsyncioPool")
        assert (pool["max-concurrency"], pool["slots-in-use"]) == (4, 1)
        control.revoke(task, terminate=True)
        control.broadcast("pool_grow", {"n": 2}, reply=True, limit=1)
        control.broadcast("pool_shrink", {"n": 1}, reply=True, limit=1)
        assert look.stats()[name]["pool"]["max-concurrency"] == 5


class TestFullWorker:
    def test_it_leaves_messages_on_the_broker_until_a_slot_is_free(self, site: Site) -> None:
        site.start_worker(slots=2)
        holders = [site.send("sleep", 30) for _ in range(2)]
        site.wait_for("asleep", 2)
        rest = [site.send("add", number, 0) for number in range(3)]
        wait_until(lambda: site.unacknowledged() == 0)
        time.sleep(1.2)  # longer than the transport waits for a message: it would have been fetched
        assert site.queued() == 3
        assert site.unacknowledged() == 0
        freed = time.monotonic()
        site.client.control.revoke(holders[0], terminate=True)
        assert [site.result(task)["sum"] for task in rest] == [0, 1, 2]
        assert time.monotonic() - freed < 1.5  # the sleeping consumer was woken

    @pytest.mark.rabbitmq
    def test_on_rabbitmq_it_sits_on_few(
        self, valkey: ValkeyServer, rabbitmq_url: str, tmp_path: Path
    ) -> None:
        site = Site(valkey.url, rabbitmq_url, tmp_path)
        try:
            worker = site.start_worker(slots=10, app="early")
            for _ in range(10):
                site.send("sleep", 1.5)
            rest = [site.send("add", number, 0) for number in range(10)]
            site.wait_for("asleep", 10)
            assert site.queued() >= 6
            assert [site.result(task)["sum"] for task in rest] == list(range(10))
            worker.terminate()
            assert worker.wait(10) == 0
        finally:
            site.close()


class TestShutdown:
    def test_sigterm_finishes_running_work_and_leaves_the_rest(self, site: Site) -> None:
        worker = site.start_worker(slots=3)
        running = [site.send("sleep", 1), site.send("sleep_then_ack", 1.5), site.send("block", 3)]
        site.wait_for("asleep", 2)
        site.wait_for("blocked")
        for _ in range(3):
            site.send("add", 1, 1)
        worker.terminate()
        site.wait_for("handed back warm=True")
        site.wait_for("woken", 2)
        wait_until(lambda: site.unacknowledged() == 0)
        assert site.result(running[1]) == "slept"
        assert site.status(running[2]) == "PENDING"  # it was acknowledged when it was done, not when all were
        assert worker.wait(10) == 0
        assert [site.result(task, 1) for task in running] == ["slept", "slept", "unblocked"]
        assert site.queued() == 3

    def test_sigquit_gives_unacknowledged_work_back_at_once(self, site: Site) -> None:
        worker = site.start_worker(slots=3)
        site.send("sleep_then_ack", 30)
        site.send("block", 30)
        site.wait_for("asleep")
        site.wait_for("blocked")
        began = time.monotonic()
        worker.send_signal(signal.SIGQUIT)
        worker.wait(10)
        assert time.monotonic() - began < 4
        assert site.notes()[-2:] == ["woken", "handed back warm=False"]
        assert site.queued() == 1
        assert site.unacknowledged() == 0

    def test_sigquit_cuts_a_warm_shutdown_short(self, site: Site) -> None:
        worker = site.start_worker()
        site.send("sleep", 30)
        site.wait_for("asleep")
        worker.terminate()
        site.wait_for("handed back warm=True")
        worker.send_signal(signal.SIGQUIT)
        worker.wait(5)
        assert "woken" in site.notes()


class TestBrokerRestart:
    def test_a_worker_outlives_its_broker(self, tmp_path: Path) -> None:
        broker, keeper = ValkeyServer(), ValkeyServer()
        broker.start()
        keeper.start()
        site = Site(keeper.url, broker.url, tmp_path)
        try:
            worker = site.start_worker(slots=4)
            early, late = site.send("sleep", 1), site.send("sleep_then_ack", 1)
            site.send("hold_then_ack", "release")
            site.wait_for("asleep", 2)
            site.wait_for("held")
            broker.stop()
            assert [site.result(task) for task in (early, late)] == ["slept", "slept"]
            broker.start()
            assert site.result(site.send("add", 2, 2), 30)["sum"] == 4
            site.redis.rpush("release", "now")
            site.wait_for("let go")  # its message came on a connection that is gone by now
            assert site.result(site.send("add", 2, 3))["sum"] == 5
            assert worker.poll() is None
            assert "Unrecoverable" not in site.log()
        finally:
            site.close()
            broker.stop()
            keeper.stop()
