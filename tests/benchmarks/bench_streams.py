"""Event streams: many clients on one api process, a tenth of which reconnects every second; delay, memory, CPU.

python -m tests.benchmarks.bench_streams [--clients 1000] [--tasks 200] [--seconds 20] [--rate 1] [--database postgres]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.engine import Database
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.runs.service.attempts import Finish, finish
from runyard_common.runs.service.claims import Batch, Claim, claim
from runyard_common.runs.service.steps import Emit, emit
from runyard_common.runtime import Runtime
from runyard_common.stream import Live
from runyard_common.tables.query import Organisation, Task
from runyard_common.values.ids import uuid7
from tests.api_server import StreamRecorder
from tests.benchmarks.stream_load import Seen
from tests.delivering import percentile
from tests.servers import Postgres, fresh_database
from tests.stack import ROOT, Stack

#: How often the tasks' events are committed, in seconds: together, as a worker does.
BEAT = 0.1


@dataclass
class Verdict:
    """What the clients saw, and what it cost the api."""

    clients: int
    seen: Seen
    events: int
    memory_kib: float  # for each client
    cpu: float  # seconds of the api, from the first event to the last client's end
    wrong: list[str] = field(default_factory=list)

    def delay(self, share: float) -> float:
        """Milliseconds after which this share of the events had come."""
        return percentile(sorted(self.seen.delays), share) * 1000

    def __str__(self) -> str:
        p50, p99, longest = (self.delay(share) for share in (0.5, 0.99, 1.0))
        counts = f"{self.clients} clients, {self.seen.reconnects} reconnects"
        frames = f"{self.events} events in {self.seen.frames} frames: {len(self.wrong)} missed or repeated"
        delay = f"delay p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {longest:.0f} ms"
        cost = (
            f"{self.memory_kib:.0f} KiB a client, {self.cpu / self.seen.frames * 1e6:.0f} µs of CPU a frame"
        )
        return f"{counts}; {frames}; {delay}; {cost}"


class Publisher:
    """A worker whose tasks do nothing but report events."""

    def __init__(self, database_url: str, redis_url: str, tasks: int) -> None:
        self.live = Live(redis_url)
        recorder = StreamRecorder(self.live)
        self.store = Runtime(Database(database_url), recorder, recorder).store
        worker = uuid7()
        with self.store.begin() as tx:
            org = tx.conn.execute(select(Organisation.id)).scalars().one()
            agents.publish(tx, org, parse({"name": "@bench/publisher", "kind": "python"}))
            agent = agents.resolve(tx.scope(org), "@bench/publisher").ref
            workers.enlist(tx, worker, "publisher", 1, tasks, 3600.0)
            specs = [RunSpec(uuid7(), org, agent, "native", {"message": "x"}) for _ in range(tasks)]
            submissions.submit(tx, specs)
            (claimed,) = claim(tx, [Claim(worker, tasks)])
            assert isinstance(claimed, Batch)
            self.tasks = [(one.task.id, one.task.fence) for one in claimed.claimed]
        self.published = 0

    @property
    def task_ids(self) -> list[str]:
        """Its tasks."""
        return [task_id for task_id, _ in self.tasks]

    def publish_for(self, seconds: float, rate: float) -> None:
        """Report `rate` events a second of every task."""
        began, turn = time.monotonic(), 0
        while (now := time.monotonic() - began) < seconds:
            self._publish(min(1.0, rate * BEAT), turn)
            turn += 1
            time.sleep(max(0.0, turn * BEAT - now))

    def _publish(self, share: float, turn: int) -> None:
        """Another event of every task whose turn it is, and some tokens of its answer."""
        groups = max(1, round(1 / share))
        mine = self.tasks[turn % groups :: groups]
        for task_id, fence in mine:
            self.live.token(task_id, fence.attempt, {"text": "so "})
        data = {"name": "news", "text": "It goes on. " * 10, "sent": time.time()}
        with self.store.begin() as tx:
            emit(tx, [Emit(task_id, fence, (("custom", data),)) for task_id, fence in mine])
        self.published += len(mine)

    def finish(self) -> dict[str, int]:
        """All tasks end; the number of each one's last event."""
        for start in range(0, len(self.tasks), 20):
            with self.store.begin() as tx:
                finish(tx, [Finish(*task, {"done": True}) for task in self.tasks[start : start + 20]])
        with self.store.read() as conn:
            found = conn.execute(select(Task.id, Task.last_seq))
            return {row.id: row.last_seq for row in found}

    def close(self) -> None:
        """End it."""
        self.live.close()
        self.store.db.close()


def run(
    folder: Path,
    clients: int,
    tasks: int,
    seconds: float,
    rate: float = 1.0,
    churn: float = 0.1,
    database_url: str = "",
) -> Verdict:
    """`clients` follow `tasks` on one api for `seconds`, each of which reports `rate` events a second."""
    with Stack(folder, database_url=database_url, workers=0, schedulers=0) as stack:
        url = stack.env["RUNYARD_DATABASE_URL"] or f"sqlite:///{stack.home / 'runyard.db'}"
        publisher = Publisher(url, stack.valkey.url, tasks)
        api = stack.processes["api-1"].pid
        stack.request("GET", f"/tasks/{publisher.tasks[0][0]}")
        before = _memory(api)
        load = _Load(stack, publisher.task_ids, clients, churn, seconds + 120)
        used = _cpu(api)
        publisher.publish_for(seconds, rate)
        memory = (_memory(api) - before) / clients / 1024
        last = publisher.finish()
        seen = load.wait()
        cpu = _cpu(api) - used
        publisher.close()
    wrong = list(seen.wrong)
    for task_id, seqs in seen.ended.items():
        wrong += [f"{task_id}: {seq} of {last[task_id]}" for seq in seqs if seq != last[task_id]]
    return Verdict(clients, seen, publisher.published, memory, cpu, wrong)


def _memory(pid: int) -> float:
    """Bytes a process holds (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> float:
    """Seconds of CPU a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Load:
    """The process of the clients."""

    def __init__(
        self, stack: Stack, task_ids: Sequence[str], clients: int, churn: float, patience: float
    ) -> None:
        given: dict[str, Any] = {
            "host": "127.0.0.1", "port": stack.ports["api-1"], "key": stack.key, "task_ids": task_ids,
            "clients": clients, "churn": churn, "patience": patience,
        }  # fmt: skip
        self._running = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.stream_load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        self._running.stdin.write(json.dumps(given) + "\n")
        self._running.stdin.flush()
        assert self._running.stdout.readline() == "ready\n", "the clients did not connect"

    def wait(self) -> Seen:
        """What the clients saw, once every one has heard of its task's end."""
        out, _ = self._running.communicate()
        return Seen(**json.loads(out))


def main() -> int:
    """Run with the arguments of the command line; 1 when a client missed an event or got one twice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=1.0, help="events of each task in a second, up to 10")
    parser.add_argument(
        "--churn", type=float, default=0.1, help="share of clients that reconnects each second"
    )
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    given = parser.parse_args()
    postgres = Postgres() if given.database == "postgres" else None
    url = ""
    if postgres is not None:
        postgres.start()
        url = fresh_database(postgres.url).replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        with tempfile.TemporaryDirectory(prefix="runyard-streams-") as name:
            shape = given.clients, given.tasks, given.seconds, given.rate
            verdicts = [run(Path(name) / str(churn), *shape, churn, url) for churn in (0.0, given.churn)]
    finally:
        if postgres is not None:
            postgres.stop()
    for verdict in verdicts:
        print(verdict)
        for text in verdict.wrong[:10]:
            print(f"  {text}")
    still, restless = verdicts
    print(f"p99 of the delay with reconnects to that without: {restless.delay(0.99) / still.delay(0.99):.1f}")
    return 1 if any(verdict.wrong for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
