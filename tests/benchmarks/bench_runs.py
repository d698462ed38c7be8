"""Runyard's whole path, HTTP submit included, beside bare Celery on the same Valkey in the same run.

python -m tests.benchmarks.bench_runs [--runs 2000] [--sleepers 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from runyard_launch.supervisor import process
from tests.benchmarks.http_load import post_many
from tests.stack import ROOT, Stack


class Peer:
    """A bare Celery worker with 1,000 threads."""

    def __init__(self, url: str, log: Path) -> None:
        os.environ["PEER_URL"] = url
        from tests.benchmarks import peer

        self.app = peer.app
        self.noop, self.sleep = peer.noop, peer.sleep
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.benchmarks.peer",
            "worker",
            "-P",
            "threads",
            "-c",
            "1000",
        ]
        self.process = process.spawn(
            [*command, "--loglevel", "WARNING", "--without-gossip", "--without-mingle"],
            log=log,
            env=os.environ,
            cwd=ROOT,
        )
        self.noop.delay().get(timeout=60)

    def close(self) -> None:
        """End the worker."""
        process.end(self.process, grace=20)


class Ours:
    """The stack's api and its one worker."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.process = stack.processes["worker-1"]

    def submit(self, agent: str, args: object, count: int, connections: int = 32) -> tuple[list[str], float]:
        """Submit over HTTP; the task ids and the seconds until the last was accepted."""
        url = self.stack.url(f"/api/v1/agents/%40bench%2F{agent}/run")
        body = json.dumps({"args": args}).encode()
        answers, seconds = asyncio.run(post_many(url, self.stack.key, body, count, connections))
        return [json.loads(answer)["task_id"] for answer in answers], seconds

    def wait_idle(self) -> None:
        """Wait until nothing waits or runs."""
        while True:
            _, queue = self.stack.request("GET", "/api/v1/ops/queue")
            if queue["waiting"] + queue["running"] == 0:
                return
            time.sleep(0.02)


def peak_memory(pid: int) -> float:
    """The most resident memory a process had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def latency(ours: Ours, peer: Peer, samples: int) -> tuple[float, float]:
    """p50 seconds from submit to the first line of the handler, one at a time: ours, Celery's."""
    mine, theirs = [], []
    for _ in range(samples):
        began = time.time()
        (task_id,), _ = ours.submit("noop", {}, 1)
        mine.append(ours.stack.until(task_id)["output"] - began)
        began = time.time()
        theirs.append(peer.noop.delay().get(timeout=20, interval=0.005) - began)
    return statistics.median(mine), statistics.median(theirs)


def accept(ours: Ours, peer: Peer, count: int) -> tuple[float, float]:
    """Submissions a second: ours over HTTP, Celery's delay()."""
    _, seconds = ours.submit("noop", {}, count)
    ours.wait_idle()
    began = time.perf_counter()
    for _ in range(count):
        peer.noop.apply_async(ignore_result=True)
    return count / seconds, count / (time.perf_counter() - began)


def throughput(ours: Ours, peer: Peer, count: int) -> tuple[float, float]:
    """No-op runs a second, from the first submit to the last result: ours, Celery's."""

    def timed(work: Callable[[], None]) -> float:
        began = time.perf_counter()
        work()
        return count / (time.perf_counter() - began)

    def mine() -> None:
        ours.submit("noop", {}, count)
        ours.wait_idle()

    def theirs() -> None:
        for result in [peer.noop.delay() for _ in range(count)]:
            result.get(timeout=120)

    return timed(mine), timed(theirs)


def sleepers(ours: Ours, peer: Peer, count: int) -> tuple[float, float]:
    """Seconds until `count` runs that each sleep one second are done, in one worker process: ours, Celery's."""
    began = time.perf_counter()
    ours.submit("sleep", {"seconds": 1}, count)
    ours.wait_idle()
    mine = time.perf_counter() - began
    began = time.perf_counter()
    for result in [peer.sleep.delay(1) for _ in range(count)]:
        result.get(timeout=120)
    return mine, time.perf_counter() - began


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--sleepers", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as name:
        agents = [str(ROOT / "tests" / "benchmarks" / "agents.py")]
        with Stack(Path(name), agents=agents, RUNYARD_WORKER_CONCURRENCY="1000") as stack:
            peer = Peer(stack.valkey.url.rsplit("/", 1)[0] + "/1", Path(name) / "peer.log")
            try:
                measure(Ours(stack), peer, given)
            finally:
                peer.close()
    return 0


def measure(ours: Ours, peer: Peer, given: argparse.Namespace) -> None:
    """Run every measurement, ours and the peer's in turn."""
    ours.submit("noop", {}, 100)  # warm both up
    ours.wait_idle()
    mine, theirs = latency(ours, peer, given.samples)
    rows = [
        ("submit to handler, p50 (ms)", (1000 * mine, 1000 * theirs)),
        ("accepted (/s)", accept(ours, peer, given.runs)),
        ("no-op runs end to end (/s)", throughput(ours, peer, given.runs)),
        (f"{given.sleepers} runs of 1 s (s)", sleepers(ours, peer, given.sleepers)),
        ("worker's peak memory (MB)", (peak_memory(ours.process.pid), peak_memory(peer.process.pid))),
    ]
    print(f"{'':28}{'Runyard':>12}{'Celery':>12}{'ratio':>9}")
    for what, (mine, theirs) in rows:
        print(f"{what:28}{mine:12.1f}{theirs:12.1f}{mine / theirs:9.2f}")


if __name__ == "__main__":
    sys.exit(main())
