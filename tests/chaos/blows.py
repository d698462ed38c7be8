"""The blows of a storm: what is done to processes, servers and the host. Each is bounded and ends by itself.

A blow that lasts returns what undoes it; the storm does that when its time is over, or at its own end.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from runyard_common.database.engine import Database
from tests.chaos.clocks import Clocks
from tests.chaos.installation import Installation, resume
from tests.chaos.ledger import ENTER

Undo = Callable[[], None]


@dataclass(frozen=True, eq=False)
class _Restore:
    """A blow that lasts: since when it may end, in monotonic time, and what undoes it."""

    due: float
    undo: Undo
    ready: Callable[[], bool] | None = None

    def is_over(self) -> bool:
        """Whether it is to be undone."""
        now = time.monotonic()
        return now >= self.due and (self.ready is None or now > self.due + 60 or self.ready())


@dataclass
class Hand:
    """What strikes: the installation, a source of chance, and what has to be undone when."""

    site: Installation
    chance: random.Random
    resumed: list[tuple[int, float]] = field(default_factory=list)  # (pid, monotonic) of every SIGCONT
    exclusive_until: float = 0.0  # while a server is away nothing else is struck, monotonic
    _undo: list[_Restore] = field(default_factory=list)

    def later(
        self, seconds: float, undo: Undo, *, exclusive: bool = False, ready: Callable[[], bool] | None = None
    ) -> None:
        """Undo something in so many seconds; `exclusive`: strike nothing else until then.

        With `ready` it is undone once that holds, too, or a minute later at most.
        """
        due = time.monotonic() + seconds
        self._undo.append(_Restore(due, undo, ready))
        if exclusive:
            self.exclusive_until = due

    def undo_due(self, everything: bool = False) -> None:
        """Undo what is due."""
        for restore in [restore for restore in self._undo if everything or restore.is_over()]:
            self._undo.remove(restore)
            restore.undo()

    def pick(self, kind: str) -> str | None:
        """A process of a kind that runs, by chance."""
        alive = self.site.processes.alive(kind)
        return self.chance.choice(alive) if alive else None

    def pick_worker(self) -> str | None:
        """A worker that has enlisted, one that holds runs before one that is idle."""
        rows = self.site.rows(
            "SELECT w.pid, count(t.id) FROM workers w LEFT JOIN tasks t ON t.lease_owner = w.id "
            "AND t.status = 'running' WHERE NOT w.lost GROUP BY w.pid"
        )
        holds = {int(str(pid)): int(str(count)) for pid, count in rows}
        alive = [name for name in self.site.processes.alive("worker") if self.pid(name) in holds]
        busy = [name for name in alive if holds[self.pid(name)]]
        return self.chance.choice(busy or alive) if alive else None

    def pid(self, name: str) -> int:
        """The pid of a process by name."""
        return self.site.processes.processes[name].pid


def worker_kill(hand: Hand) -> None:
    """SIGKILL of a worker."""
    if name := hand.pick_worker():
        hand.site.note_struck(hand.pid(name))
        hand.site.processes.end_by_kill(name)


def worker_stop(hand: Hand) -> None:
    """SIGSTOP of a worker, as a suspended host, until others have begun what it ran."""
    name = hand.pick_worker()
    if name is None:
        return
    worker = hand.site.processes.processes[name]
    hand.site.note_struck(worker.pid)
    worker.send_signal(signal.SIGSTOP)
    owner = f"SELECT id FROM workers WHERE pid = {worker.pid}"
    running = hand.site.rows(f"SELECT id FROM tasks WHERE status = 'running' AND lease_owner IN ({owner})")
    ids = ", ".join(f"'{row[0]}'" for row in running) or "''"

    def moved() -> bool:
        query = (
            f"SELECT count(*) FROM tasks WHERE id IN ({ids}) AND "
            f"(status IN ('pending', 'queued') OR lease_owner IN ({owner}))"
        )
        rows = hand.site.rows(query)
        return bool(rows) and rows[0][0] == 0

    # Its row goes with the rescue: until then the tasks name it, after that they wait for others.
    hand.later(hand.site.shape.lease * 1.2, lambda: _resume(hand, worker), ready=moved)


def _resume(hand: Hand, running: subprocess.Popen[bytes]) -> None:
    hand.resumed.append((running.pid, time.monotonic()))
    resume(running)


def worker_leave(hand: Hand) -> None:
    """SIGTERM of a worker under load, as a deploy."""
    if name := hand.pick_worker():
        hand.site.processes.ask_to_leave(name)


def worker_leave_in_claim(hand: Hand) -> None:
    """SIGTERM of a worker whose claim waits for its turn: what it brings arrives after the drain has begun."""
    name = hand.pick_worker()
    if name is None:
        return
    pid, db = hand.pid(name), Database(hand.site.driver_url, pool_size=1)
    lock = ExitStack()
    lock.callback(db.close)
    query = "SELECT id FROM workers WHERE pid = :pid" + (" FOR UPDATE" if db.is_postgres else "")
    try:
        lock.enter_context(db.begin()).execute(text(query), {"pid": pid})
    except OperationalError:  # another blow holds the database, or it has no room for a writer now
        lock.close()
        return
    _wait_for_waiting_claim(hand)
    hand.site.processes.ask_to_leave(name)
    hand.later(1.0, lock.close, exclusive=True)


def _wait_for_waiting_claim(hand: Hand, seconds: float = 3.0) -> None:
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%workers%FOR SHARE%'"
    )
    deadline = time.monotonic() + (seconds if hand.site.postgres else 0.3)
    while time.monotonic() < deadline:
        if hand.site.postgres is not None and hand.site.rows(waiting):
            return
        time.sleep(0.02)


def worker_row_lost(hand: Hand) -> None:
    """A worker dies, and its row is gone: its runs name an owner that has no row."""
    if name := hand.pick_worker():
        pid = hand.pid(name)
        hand.site.note_struck(pid)
        hand.site.processes.kill(name, signal.SIGSTOP)
        hand.site.rows(f"DELETE FROM workers WHERE pid = {pid}")
        hand.site.processes.end_by_kill(name)


def api_kill(hand: Hand) -> None:
    """SIGKILL of an api."""
    if name := hand.pick("api"):
        hand.site.processes.end_by_kill(name)


def scheduler_kill(hand: Hand) -> None:
    """SIGKILL of a scheduler."""
    if name := hand.pick("scheduler"):
        hand.site.processes.end_by_kill(name)


def _redis(hand: Hand) -> redis.Redis:
    return redis.Redis.from_url(hand.site.processes.valkey.url, socket_timeout=5)


def broker_flush(hand: Hand) -> None:
    """The Redis loses everything it knows."""
    with _redis(hand) as client:
        client.flushall()


def broker_kill(hand: Hand) -> None:
    """The Redis, or RabbitMQ, is killed and starts again."""
    if hand.site.rabbit is not None:
        hand.site.rabbit.restart()
    else:
        hand.site.processes.valkey.kill()
        hand.site.processes.valkey.start()


def broker_full(hand: Hand) -> None:
    """The Redis, or RabbitMQ, takes no more for six seconds."""
    rabbit = hand.site.rabbit
    if rabbit is not None:
        rabbit.control("set_vm_memory_high_watermark", "absolute", "1")
        restore = ("set_vm_memory_high_watermark", "absolute", "1GB")
        hand.later(6, lambda: rabbit.control(*restore), exclusive=True)
        return
    with _redis(hand) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
    hand.later(6, lambda: _configure(hand, "maxmemory", "0"), exclusive=True)


def broker_readonly(hand: Hand) -> None:
    """The Redis is a replica for six seconds, as after a failover that this client missed."""
    with _redis(hand) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    hand.later(6, lambda: _primary(hand), exclusive=True)


def _configure(hand: Hand, name: str, value: str) -> None:
    with _redis(hand) as client:
        client.config_set(name, value)


def _primary(hand: Hand) -> None:
    with _redis(hand) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")


def database_crash(hand: Hand) -> None:
    """PostgreSQL shuts down at once just after a worker has begun what it claimed, and recovers."""
    assert hand.site.postgres is not None
    wait_for_claim(hand)
    hand.site.postgres.restart()


def database_backend(hand: Hand) -> None:
    """One backend is killed just after a claim: PostgreSQL resets them all."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'runyard' OR backend_type = 'client backend'"
    pids = [int(str(row[0])) for row in hand.site.rows(query)]
    wait_for_claim(hand)
    for pid in hand.chance.sample(pids, len(pids)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # the connection is closed
        return


def wait_for_claim(hand: Hand, seconds: float = 10.0) -> None:
    """Return at the very moment when an agent's code begins: its claim was committed just before."""
    ledger = hand.site.ledger
    seen, deadline = ledger.size, time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ledger.size > seen:
            with ledger.path.open("rb") as file:
                file.seek(seen)
                new = file.read()
            if f" {ENTER} ".encode() in new:
                return
            seen += len(new)
        time.sleep(0.0005)


def database_freeze(hand: Hand) -> None:
    """PostgreSQL neither answers nor refuses for longer than a lease."""
    assert hand.site.postgres is not None
    pids = _server_pids(hand.site.postgres.base)
    _signal(pids, signal.SIGSTOP)
    seconds = hand.site.shape.lease * 1.4 + 1
    hand.later(seconds, lambda: _signal(pids, signal.SIGCONT), exclusive=True)


def _server_pids(base: Path) -> list[int]:
    postmaster = int((base / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def disk_full(hand: Hand) -> None:
    """The disk of the embedded installation has no byte left for six seconds."""
    disk = hand.site.disk
    assert disk is not None
    disk.fill()
    hand.later(6, disk.free, exclusive=True)


def clock_step(hand: Hand) -> None:
    """The wall clock of one process jumps, and jumps back after ten seconds.

    On SQLite it is the database's clock as well: what is due an hour later by it is due then, and no storm waits.
    """
    clocks, name = hand.site.processes.clocks, hand.pick("")
    if clocks is not None and name is not None:
        far = (-3600, 3600) if hand.site.postgres is not None else ()
        clocks.set(name, hand.chance.choice((-45, 45, *far)))
        hand.later(10, lambda: clocks.set(name, 0))


@dataclass(frozen=True)
class Blow:
    """A blow by name, how often it comes among a hundred, where it can be struck, and if it waits for a claim."""

    strike: Callable[[Hand], None]
    share: int
    possible: Callable[[Installation], bool] = lambda site: True
    waits: bool = False


def _on_postgres(site: Installation) -> bool:
    return site.postgres is not None


BLOWS: Final[dict[str, Blow]] = {
    "worker-kill": Blow(worker_kill, 20),
    "worker-stop": Blow(worker_stop, 15),
    "worker-leave": Blow(worker_leave, 15),
    "worker-leave-in-claim": Blow(worker_leave_in_claim, 5, waits=True),
    "worker-row-lost": Blow(worker_row_lost, 3),
    "api-kill": Blow(api_kill, 6),
    "scheduler-kill": Blow(scheduler_kill, 6),
    "broker-flush": Blow(broker_flush, 5),
    "broker-kill": Blow(broker_kill, 5),
    "broker-full": Blow(broker_full, 5),
    "broker-readonly": Blow(broker_readonly, 5, lambda site: site.rabbit is None),
    "database-crash": Blow(database_crash, 6, _on_postgres, waits=True),
    "database-backend": Blow(database_backend, 4, _on_postgres, waits=True),
    "database-freeze": Blow(database_freeze, 3, _on_postgres),
    "disk-full": Blow(disk_full, 5, lambda site: site.disk is not None),
    "clock-step": Blow(clock_step, 8, lambda site: site.processes.clocks is not None and Clocks.possible()),
}
