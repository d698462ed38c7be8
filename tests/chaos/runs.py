"""Kill workers, schedulers and apis while tasks run; restart their servers; then count what was lost.

python -m tests.chaos.runs [--tasks 2000] [--seconds 240] [--database postgres|sqlite] [--broker valkey|rabbitmq]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos.verdict import Verdict, judge, recoveries
from tests.servers import Postgres, RabbitMQ, fresh_database
from tests.stack import ROOT, Stack

KINDS = ("steps", "steps", "ask", "review", "child")
LIMIT = 40


class Chaos:
    """One run: a crowd of tasks, a hand that kills, people who answer."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.accepted: list[str] = []
        self.deaths: dict[str, float] = {}  # worker id -> when it was killed or stopped, epoch seconds
        self.over = threading.Event()

    def submit(self, count: int) -> None:
        """Submit `count` tasks, as a client would: again with the same Idempotency-Key until it is answered."""
        with ThreadPoolExecutor(8) as pool:
            self.accepted = list(pool.map(self._submit_one, range(count)))

    def _submit_one(self, number: int) -> str:
        body = {"args": {"kind": KINDS[number % len(KINDS)], "pause": 0.1 + (number % 7) / 20}}
        apis = list(self.stack.ports)
        for attempt in range(600):
            status, answer = self.stack.request(
                "POST", "/api/v1/agents/%40chaos%2Fmixed/run", body, apis[(number + attempt) % len(apis)],
                headers={"idempotency-key": f"chaos-{number}"},
            )  # fmt: skip
            if status in (200, 201, 202):
                return str(answer["task_id"])
            assert status in (0, 409, 429, 500, 502, 503), (status, answer)
            time.sleep(0.2)
        raise AssertionError("never accepted")

    def answer_people(self) -> None:
        """Answer whatever waits, until the run is over."""
        while not self.over.is_set():
            for name in self.stack.ports:
                status, page = self.stack.request("GET", "/api/v1/inbox?limit=100", name=name)
                if status != 200:
                    continue
                for waiting in page["data"]:
                    self._answer(waiting, name)
                break
            self.over.wait(0.5)

    def _answer(self, waiting: dict[str, Any], name: str) -> None:
        task_id = waiting["task_id"]
        if waiting["kind"] == "question":
            self.stack.request("POST", f"/tasks/{task_id}/message", {"message": "yes"}, name)
        else:
            self.stack.request("POST", f"/tasks/{task_id}/review", {"action": "approve"}, name)

    def kill_something(self) -> None:
        """One blow: a killed process comes back at once, a stopped one after its lease is long gone."""
        alive = [n for n in self.stack.processes if self._alive(n)]
        workers = [n for n in alive if n.startswith("worker")]
        name = self.random.choice(workers if workers and self.random.random() < 0.6 else alive)
        if name.startswith("worker"):
            self._note_death(self.stack.processes[name].pid)
        if name.startswith("worker") and self.random.random() < 0.25:
            self.stack.kill(name, signal.SIGSTOP)
            threading.Timer(14.0, lambda: self.stack.kill(name, signal.SIGCONT)).start()
            return
        self.stack.kill(name)
        self.stack.start(name)

    def _note_death(self, pid: int) -> None:
        """Remember under which id the worker process about to be hit is known."""
        for api in self.stack.ports:
            status, page = self.stack.request("GET", "/api/v1/ops/workers", name=api)
            if status == 200:
                found = (w["id"] for w in page["data"] if w["pid"] == pid and w["state"] == "alive")
                self.deaths |= dict.fromkeys(found, time.time())
                return

    def revive(self) -> None:
        """Start again what ended by itself, as every supervisor does."""
        for name, running in list(self.stack.processes.items()):
            if running.poll() is not None:
                said = (self.stack.logs / f"{name}.log").read_text()[-1500:]
                print(f"{name} ended by itself with {running.returncode}:\n{said}", file=sys.stderr)
                self.stack.start(name)

    def _alive(self, name: str) -> bool:
        return self.stack.processes[name].poll() is None

    def unfinished(self) -> int:
        """How many tasks have not ended."""
        for name in self.stack.ports:
            status, queue = self.stack.request("GET", "/api/v1/ops/queue", name=name)
            if status == 200:
                names = ("waiting", "running", "queued", "waiting_for_input", "awaiting_review")
                return sum(int(queue[name]) for name in names)
        return -1


def run(
    tasks: int,
    seconds: float,
    database: str,
    broker: str,
    every: float = 3.0,
    workers: int = 2,
    apis: int = 2,
) -> Verdict:
    """One bounded chaos run; its verdict."""
    with tempfile.TemporaryDirectory(prefix="runyard-chaos-") as name:
        folder = Path(name)
        ledger = folder / "ledger"
        postgres = Postgres() if database == "postgres" else None
        rabbit = RabbitMQ() if broker == "rabbitmq" else None
        for server in (postgres, rabbit):
            if server is not None:
                server.start()
        try:
            url = fresh_database(postgres.url) if postgres else f"sqlite:///{folder / 'runyard.db'}"
            env = {"CHAOS_LEDGER": str(ledger), "RUNYARD_WORKER_CONCURRENCY": "60"}
            with Stack(
                folder, database_url=url, broker_url=rabbit.url if rabbit else "", api=apis, workers=workers,
                schedulers=2, agents=[str(ROOT / "tests" / "chaos" / "agents.py")], **env,
            ) as stack:  # fmt: skip
                chaos = Chaos(stack, seed=int(os.environ.get("CHAOS_SEED", "1")))
                _drive(chaos, tasks, seconds, every, postgres)
            verdict = judge(_driver(url), chaos.accepted, ledger, {"@chaos/mixed": LIMIT})
            verdict.handed_on_s, verdict.resumed_s = recoveries(_driver(url), chaos.deaths)
            if not verdict.clean:
                kept = shutil.copytree(
                    stack.logs, tempfile.mkdtemp(prefix="runyard-chaos-logs-"), dirs_exist_ok=True
                )
                print(f"The processes' logs are kept in {kept}", file=sys.stderr)
            return verdict
        finally:
            for server in (rabbit, postgres):
                if server is not None:
                    server.stop()


def _drive(chaos: Chaos, tasks: int, seconds: float, every: float, postgres: Postgres | None) -> None:
    stack = chaos.stack
    status, limit = stack.request(
        "POST", "/api/v1/limits", {"kind": "agent", "selector": "@chaos/mixed", "max_concurrent": LIMIT}
    )
    assert status == 201, limit
    people = threading.Thread(target=chaos.answer_people, daemon=True)
    crowd = threading.Thread(target=chaos.submit, args=(tasks,), daemon=True)
    people.start()
    crowd.start()
    began = time.monotonic()
    blows = 0
    while time.monotonic() - began < seconds:
        time.sleep(every)
        chaos.revive()
        blows += 1
        if blows % 7 == 3:
            _flush(stack)
        elif blows == 5 and postgres is not None:
            postgres.restart()
        else:
            chaos.kill_something()
        if not crowd.is_alive() and chaos.unfinished() == 0:
            break
    crowd.join(120)
    deadline = time.monotonic() + 180
    while chaos.unfinished() != 0 and time.monotonic() < deadline:
        chaos.revive()
        time.sleep(0.5)
    chaos.over.set()
    people.join(10)


def _flush(stack: Stack) -> None:
    """The broker loses everything, and its process with it."""
    import redis

    with redis.Redis.from_url(stack.valkey.url) as client:
        client.flushall()
    stack.valkey.kill()
    stack.valkey.start()


def _driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def main() -> int:
    """Run with the arguments of the command line; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--database", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--broker", choices=["valkey", "rabbitmq"], default="valkey")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two blows")
    given = parser.parse_args()
    verdict = run(given.tasks, given.seconds, given.database, given.broker, every=given.every)
    print(verdict)
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
