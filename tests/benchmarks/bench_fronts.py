"""`python -m tests.benchmarks.bench_fronts`: what each front costs over the native one, as ratios.

One api process, one worker, the same agent. Accepting: agentbase's background call and appstrate's beside the
native accept. Waiting: nara's and nugen's call beside a native accept and a wait for the end, which is the same
work. Each round takes the fronts in turns; a figure is the median of the rounds' medians. In the end a thousand
callers wait at once: what that costs the api process in threads and memory.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.contract.live import Live, waiting_together

WAITERS = int(os.environ.get("BENCH_FRONTS_WAITERS", "1000"))
CALLS = int(os.environ.get("BENCH_FRONTS_CALLS", "100"))
ROUNDS = int(os.environ.get("BENCH_FRONTS_ROUNDS", "5"))
Ask = Callable[[httpx2.Client], httpx2.Response]


def native(client: httpx2.Client) -> httpx2.Response:
    """Accept one run."""
    return client.post("/api/v1/agents/echo/run", json={"query": "hi"})


def native_and_wait(client: httpx2.Client) -> httpx2.Response:
    """Accept one run and wait for its end."""
    task_id = native(client).json()["task_id"]
    return client.get(f"/tasks/{task_id}?wait=30")


def agentbase(client: httpx2.Client) -> httpx2.Response:
    """Accept one run through agentbase."""
    return client.post("/", params={"agent": "echo"}, json={"message": "hi", "background": True})


class Appstrate:
    """Accept one run through appstrate, each minute's twenty with a key of their own."""

    __name__ = "appstrate"

    def __init__(self, live: Live, calls: int) -> None:
        self._keys = iter(
            [key for key in (live.key_of("admin") for _ in range(calls // 20 + 1)) for _ in range(20)]
        )

    def __call__(self, client: httpx2.Client) -> httpx2.Response:
        headers = {"authorization": f"Bearer {next(self._keys)}"}
        return client.post("/api/agents/@demo/echo/run", json={"input": {"a": 1}}, headers=headers)


def nara(client: httpx2.Client) -> httpx2.Response:
    """Run through nara."""
    return client.post("/api/agent/run", json={"agentName": "echo", "args": {"a": 1}})


def nugen(client: httpx2.Client) -> httpx2.Response:
    """Run through nugen."""
    return client.post("/api/v3/agents/run-agents/echo/run", json={"message": "hi"})


def measure(client: httpx2.Client, ask: Ask) -> float:
    """The median time of a call, in milliseconds."""
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        answer = ask(client)
        times.append((time.perf_counter() - began) * 1000)
        assert answer.is_success, answer.text
    return statistics.median(times)


def compare(client: httpx2.Client, base: Ask, *others: Ask) -> None:
    """Measure in turns and print medians and ratios."""
    seen: dict[str, list[float]] = {ask.__name__: [] for ask in (base, *others)}
    for _ in range(ROUNDS):
        for ask in (base, *others):
            seen[ask.__name__].append(measure(client, ask))
    unit = statistics.median(seen[base.__name__])
    for name, figures in seen.items():
        middle = statistics.median(figures)
        print(f"  {name:16} {middle:8.2f} ms  ratio {middle / unit:5.2f}", flush=True)


def waiting(live: Live, barrier: Path) -> None:
    """Have callers wait at once, and print what api-1 needs for them."""
    threads, memory = live.threads(), live.memory_mb()
    body = {"agentName": "gated", "args": {"gate": str(barrier)}}
    most = 0.0

    def look() -> None:
        nonlocal most
        most = live.memory_mb()

    answers, while_waiting = waiting_together(
        live, WAITERS, lambda client: client.post("/api/agent/run", json=body), barrier, then=look
    )
    assert {answer.status_code for answer in answers} == {200}
    print(f"{WAITERS} callers of nara waiting at once: {threads} threads before, {while_waiting} meanwhile;")
    print(
        f"  {memory:.0f} MB before, {most:.0f} MB meanwhile: {(most - memory) * 1024 / WAITERS:.0f} kB a caller"
    )


def main() -> None:
    """Compare accepting, then waiting."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Live(Path(folder), RUNYARD_SURFACE_REQUESTS_PER_MINUTE='{"agentbase": 0}') as live,
        live.client() as client,
    ):
        appstrate = Appstrate(live, CALLS * ROUNDS + 1)
        for ask in (native_and_wait, agentbase, appstrate, nara, nugen):
            ask(client)
        print(f"accepting, {ROUNDS} rounds of {CALLS} calls, one after another")
        compare(client, native, agentbase, appstrate)
        print(f"waiting for the end, {ROUNDS} rounds of {CALLS} calls, one after another")
        compare(client, native_and_wait, nara, nugen)
        waiting(live, Path(folder) / "gate")
        live.store.db.close()


if __name__ == "__main__":
    main()
