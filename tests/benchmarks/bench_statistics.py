"""What the overview asks beside a hundred runs and beside a hundred thousand, and what rolling them up costs.

python -m tests.benchmarks.bench_statistics [--stored 100000] [--rounds 31] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx2
from sqlalchemy import update

from runyard_common.statistics import service
from runyard_common.tables.query import Task
from tests.api_server import Api
from tests.benchmarks.bench_history import BATCH, History
from tests.benchmarks.bench_schedules import databases

FEW: Final = 100
#: What the page asks, the day that it shows first and the month.
ASKED: Final = {
    "runs, a day": "/api/v1/statistics/runs",
    "queue, a day": "/api/v1/statistics/queue",
    "runs, 30 days": "/api/v1/statistics/runs?since={month}",
    "usage by agent": "/api/v1/statistics/runs?by=agent&since={month}",
}
_MONTH: Final = 30 * 86_400


def _rolled_up(history: History) -> None:
    """Roll up all that there is; printed with what it cost this process and PostgreSQL."""
    rounds = 0
    history.look_for_backends()

    def work() -> None:
        nonlocal rounds
        behind = True
        while behind:
            behind = service.roll_up(history.store).behind
            rounds += 1

    took = history.timed(work)
    print(
        f"  {history.stored:>9,} runs rolled up in {rounds} rounds: {1e6 * took / history.stored:.1f} us of CPU a run"
    )


def _rounds(history: History) -> None:
    """What a round costs with nothing new, and with a batch of runs that ended meanwhile."""
    idle, busy = [], []
    for _ in range(9):
        idle.append(history.timed(lambda: service.roll_up(history.store)))
        history.work()
        busy.append(history.timed(lambda: service.roll_up(history.store)))
    low, high = statistics.median(idle), statistics.median(busy)
    print(
        f"  a round beside {history.stored:,}: {1e3 * low:.1f} ms of CPU, {1e3 * high:.1f} ms with {BATCH} new runs"
    )


def _asked(clients: Sequence[httpx2.Client], rounds: int) -> None:
    times: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    month = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - _MONTH))
    for number in range(rounds + 2):
        for name, path in ASKED.items():
            for which, client in enumerate(clients):
                began = time.perf_counter()
                client.get(path.format(month=month)).raise_for_status()
                if number > 1:  # the first ones warm caches and plans
                    times[name, which].append(time.perf_counter() - began)
    for name in ASKED:
        low, high = (statistics.median(times[name, which]) for which in (0, 1))
        print(f"  GET {name:<16}{1e3 * low:8.2f} ms{1e3 * high:8.2f} ms   {high / low:5.2f} times")


def compare(urls: Sequence[str], stored: int, rounds: int) -> None:
    """Print the medians beside `FEW` and beside `stored`, asked in turns, and the costs of the roll-up."""
    with ExitStack() as stack:
        clients = []
        for url, number in zip(urls, (FEW, stored), strict=True):
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runyard-bench-")))
            history = History(url, number)
            api = stack.enter_context(Api(home / "home", url))
            with history.store.begin() as tx:
                tx.conn.execute(update(Task).values(org_id=api.state.org_id))
            history.org = api.state.org_id
            _rolled_up(history)
            _rounds(history)
            clients.append(
                stack.enter_context(httpx2.Client(base_url=api.url, headers=_bearer(api), timeout=60))
            )
            stack.callback(history.db.close)
        _asked(clients, rounds)


def _bearer(api: Api) -> dict[str, str]:
    return {"authorization": f"Bearer {api.key}"}


def main() -> None:
    """Compare on each database."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--database", choices=["postgres", "sqlite"], action="append")
    given = parser.parse_args()
    for kind in given.database or ["postgres", "sqlite"]:
        with databases(kind) as urls:
            print(f"{kind}: beside {FEW:,} runs, beside {given.stored:,}")
            compare(urls, given.stored, given.rounds)


if __name__ == "__main__":
    main()
