"""Deliveries to receivers that fail in every way and die, by deliverers that are killed; and beside a dead receiver.

python -m tests.benchmarks.bench_deliveries [--events 5000] [--away 60] [--rate 10] [--seconds 40] [--postgres]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.delivering import Count, ReceiverProcess, Site, delays, judge, percentile
from tests.servers import Postgres, fresh_database

EVENTS_OF_A_TASK = 3
WAVES = 20


@dataclass(frozen=True)
class Delays:
    """A healthy receiver's delays alone (`quiet`) and beside a dead receiver (`loaded`), in seconds."""

    quiet: list[float]
    loaded: list[float]

    @property
    def ratio(self) -> float:
        """The p99 beside the dead receiver over the p99 alone."""
        return percentile(self.loaded, 0.99) / percentile(self.quiet, 0.99)

    def __str__(self) -> str:
        quiet, loaded = (
            f"p50 {percentile(d, 0.5) * 1000:.0f} ms, p99 {percentile(d, 0.99) * 1000:.0f} ms"
            for d in (self.quiet, self.loaded)
        )
        return f"a healthy receiver alone: {quiet}; beside a dead one: {loaded}; p99 ratio {self.ratio:.2f}"


def storm(
    folder: Path, events: int, away: float, kill_every: float, database_url: str = "", feeding: float = 8.0
) -> Count:
    """`events` deliveries to five endpoints while deliverers are killed, one receiver dies and comes back.

    Another answers 410 in the middle: it is switched off, enabled again, and what died meanwhile is replayed.
    """
    with Site(folder, database_url) as site:
        steady, mortal = site.receiver(), site.receiver()
        for path in ("/ok", "/flaky/4", "/slow/0.05"):
            site.hook(steady, path)
        site.hook(mortal, "/ok")
        gone = site.hook(steady, "/gone/20")
        for _ in range(2):
            site.deliverer()
        tasks = -(-events // (EVENTS_OF_A_TASK * len(site.hooks)))
        fed = threading.Event()

        def feed() -> None:
            for wave in range(WAVES):
                site.live(tasks * (wave + 1) // WAVES - tasks * wave // WAVES)
                time.sleep(feeding / WAVES)
            fed.set()

        feeder = threading.Thread(target=feed)
        feeder.start()
        die = threading.Thread(target=_die, args=(mortal, away))
        die.start()
        deadline = time.monotonic() + away + 120 + events / 20
        blows = revived = 0
        while not fed.is_set() or die.is_alive() or site.pending() or not revived:
            revived += site.revive(gone)
            assert time.monotonic() < deadline, f"{site.pending()} deliveries are still pending"
            time.sleep(kill_every)
            victim = site.deliverers[blows % 2]
            victim.kill()
            victim.start()
            blows += 1
        feeder.join()
        die.join()
        print(
            f"{blows} deliverers were killed; one receiver was away for {away:g} s, one gone and enabled again"
        )
        return judge(site)


def _die(receiver: ReceiverProcess, away: float) -> None:
    time.sleep(1.0)
    receiver.kill()
    time.sleep(away)
    receiver.start()


def compare_delays(
    folder: Path, rate: float, seconds: float, database_url: str = "", timeout: float = 15.0, rounds: int = 10
) -> Delays:
    """Events at `rate` a second to a healthy receiver: by turns alone and beside one that never answers."""
    quiet: list[float] = []
    loaded: list[float] = []
    with Site(folder, database_url, timeout=timeout, lease=timeout + 5, pause=10.0) as site:
        healthy = site.hook(site.receiver(), "/ok", ["run.completed"])
        dead = site.hook(site.receiver(), "/hang")
        site.deliverer()
        _steadily(site, rate, 2.0)  # warm up
        for turn in range(2 * rounds):
            site.switch(dead, on=bool(turn % 2))
            began = time.time()
            _steadily(site, rate, seconds / rounds)
            site.wait_until_settled(60, healthy)
            (loaded if turn % 2 else quiet).extend(delays(site, healthy, began))
        assert site.pending(dead), "the dead receiver has taken something"
    return Delays(sorted(quiet), sorted(loaded))


def memory() -> str | None:
    """A folder in memory, where the swings of a busy disk do not count; None where there is none."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _steadily(site: Site, rate: float, seconds: float) -> None:
    began = time.monotonic()
    for n in range(int(rate * seconds)):
        time.sleep(max(0.0, began + n / rate - time.monotonic()))
        site.live(1)


def main() -> int:
    """Run with the arguments of the command line; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--away", type=float, default=60)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    postgres = Postgres() if given.postgres else None
    if postgres is not None:
        postgres.start()

    def url() -> str:
        if postgres is None:
            return ""
        return fresh_database(postgres.url).replace("postgresql://", "postgresql+psycopg://", 1)

    try:
        with tempfile.TemporaryDirectory(prefix="runyard-deliveries-") as name:
            began = time.monotonic()
            count = storm(Path(name), given.events, given.away, 3.0, url(), feeding=given.away)
            took = time.monotonic() - began
        verdict = "clean" if count.clean else str(count)
        print(
            f"{count.promised} promised, {count.sent} sent, {count.repeated} repeated in {took:.0f} s: {verdict}"
        )
        with tempfile.TemporaryDirectory(prefix="runyard-deliveries-", dir=memory()) as name:
            found = compare_delays(Path(name), given.rate, given.seconds, url())
        print(found)
        return 0 if count.clean and found.ratio <= 1.5 else 1
    finally:
        if postgres is not None:
            postgres.stop()


if __name__ == "__main__":
    sys.exit(main())
