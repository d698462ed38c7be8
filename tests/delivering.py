"""Real receivers and deliverers, to be killed; tasks that promise them every change; and the count afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import standardwebhooks
from sqlalchemy import insert, select

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.outbound import OutboundPolicy
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.runs.service.attempts import Finish, finish
from runyard_common.runs.service.claims import Batch, Claim, claim
from runyard_common.runtime import Runtime
from runyard_common.tables.query import Delivery, Organisation
from runyard_common.values.ids import uuid7
from runyard_common.webhooks.queries.delivery_log import Filter
from runyard_common.webhooks.service import endpoints, redeliveries
from runyard_common.webhooks.service.endpoints import EndpointRequest
from tests import databases
from tests.fakes.receiver import Received, read_log
from tests.installation import Recorder
from tests.ports import free_port
from tests.stack import PYTHONPATH, ROOT

POLICY = OutboundPolicy(allow_private=True)
AGENT = "@test/logged"
#: As many attempts as the native schedule has, for a receiver that is away for seconds instead of days.
GAPS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 2.0, 2.0, 3.0, 3.0, 4.0, 5.0)


class Process:
    """A process of the tests, which prints a line when it is ready."""

    def __init__(self, module: str, *arguments: str, **env: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._env = {**os.environ, "PYTHONPATH": PYTHONPATH, **env}
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        running = subprocess.Popen(self._command, env=self._env, cwd=ROOT, stdout=subprocess.PIPE)
        assert running.stdout is not None
        assert running.stdout.readline(), f"{self._command} did not start"
        self._running = running  # not before it listens to signals

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send it a signal; after SIGKILL it is gone when this returns."""
        self._running.send_signal(sig)
        if sig == signal.SIGKILL:
            self._end()

    def stop(self) -> None:
        """End it in order."""
        self._running.terminate()
        self._end()

    def _end(self) -> None:
        self._running.wait(60)
        if self._running.stdout is not None:
            self._running.stdout.close()


class ReceiverProcess(Process):
    """`tests.fakes.receiver` on a port of its own, which it keeps through its deaths."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.port = free_port()
        super().__init__("tests.fakes.receiver", str(self.port), str(log))

    def url(self, path: str) -> str:
        """An address on it."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def received(self) -> list[Received]:
        """Every request it has had."""
        return read_log(self.log)


@dataclass
class Hook:
    """An endpoint, and the receiver it is on."""

    id: str
    secret: str
    path: str
    receiver: ReceiverProcess


@dataclass
class Site:
    """An organisation with endpoints, tasks that change, and deliverers. `close()` it."""

    folder: Path
    database_url: str = ""
    gaps: Sequence[float] = GAPS
    timeout: float = 1.0
    lease: float = 2.0
    pause: float = 0.5
    hooks: list[Hook] = field(default_factory=list)
    deliverers: list[Process] = field(default_factory=list)
    receivers: list[ReceiverProcess] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.database_url = self.database_url or f"sqlite:///{self.folder / 'site.db'}"
        self.db = databases.opened(self.database_url)
        recorder = Recorder()
        recorder.notify_deliveries = self._ring  # type: ignore[method-assign]
        self.store = Runtime(self.db, recorder, recorder).store
        self.key = new_key()
        self.org = uuid7()
        with self.store.begin() as tx:
            tx.conn.execute(
                insert(Organisation),
                {"id": self.org, "name": "site", "weight": 1.0, "active": True, "created_at": tx.now},
            )
            agents.publish(tx, self.org, parse({"name": AGENT, "version": "1.0.0", "instructions": "-"}))
            self.agent = agents.resolve(tx.scope(self.org), AGENT).ref
            self.worker = uuid7()
            workers.enlist(tx, self.worker, "test", 1, 10_000, 3600.0)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.deliverers, *self.receivers):
            process.stop()
        self.db.close()

    def _ring(self) -> None:
        for deliverer in self.deliverers:
            deliverer.kill(signal.SIGUSR1)

    def receiver(self) -> ReceiverProcess:
        """Start another receiver."""
        made = ReceiverProcess(self.folder / f"received-{next(self._numbers)}")
        self.receivers.append(made)
        return made

    def deliverer(self) -> Process:
        """Start another deliverer."""
        given = {
            "database": self.database_url, "key": self.key, "gaps": list(self.gaps), "timeout": self.timeout,
            "lease": self.lease, "pause": self.pause,
        }  # fmt: skip
        made = Process("tests.fakes.deliverer", DELIVERER=json.dumps(given))
        self.deliverers.append(made)
        return made

    def hook(self, receiver: ReceiverProcess, path: str, events: Sequence[str] = ("*",)) -> Hook:
        """Make an endpoint on a receiver, as fast as it will be."""
        wanted = EndpointRequest(receiver.url(path), tuple(events), max_parallel=32, max_per_second=10_000.0)
        with self.store.begin() as tx:
            made = endpoints.create(tx, self.org, wanted, Sealer(self.key), POLICY, "test")
        hook = Hook(made.endpoint.id, made.secret, path, receiver)
        self.hooks.append(hook)
        return hook

    def live(self, number: int) -> None:
        """So many tasks are submitted, claimed and finished, in one commit: three events each."""
        specs = [RunSpec(uuid7(), self.org, self.agent, "native", {"message": "x"}) for _ in range(number)]
        with self.store.begin() as tx:
            submissions.submit(tx, specs)
            (claimed,) = claim(tx, [Claim(self.worker, number)])
            assert isinstance(claimed, Batch)
            finish(tx, [Finish(one.task.id, one.task.fence, {"n": 1}) for one in claimed.claimed])

    def revive(self, hook: Hook) -> bool:
        """If an endpoint was switched off, enable it and send again what died by that; whether it was."""
        with self.store.begin() as tx:
            if endpoints.own(tx.scope(self.org), hook.id).active:
                return False
            endpoints.set_active(tx, self.org, hook.id, True, "test")
            again = redeliveries.replay(tx, self.org, hook.id, Filter(states=("dead",)), "test")
            assert not again.has_more
            return True

    def switch(self, hook: Hook, on: bool) -> None:
        """Enable or disable an endpoint."""
        with self.store.begin() as tx:
            endpoints.set_active(tx, self.org, hook.id, on, "test")

    def rows(self) -> list[Any]:
        """Every delivery, without its body."""
        columns = (
            Delivery.id, Delivery.endpoint_id, Delivery.task_id, Delivery.event_id, Delivery.order_seq, Delivery.state,
            Delivery.attempt, Delivery.error, Delivery.created_at, Delivery.updated_at,
        )  # fmt: skip
        with self.store.read() as conn:
            return list(conn.execute(select(*columns).order_by(Delivery.task_id, Delivery.order_seq)))

    def pending(self, *hooks: Hook) -> int:
        """How many deliveries (of these endpoints) are not settled."""
        query = select(Delivery.id).where(Delivery.state == "pending")
        if hooks:
            query = query.where(Delivery.endpoint_id.in_([hook.id for hook in hooks]))
        with self.store.read() as conn:
            return len(conn.execute(query).all())

    def wait_until_settled(self, seconds: float, *hooks: Hook) -> None:
        """Wait until nothing is pending."""
        deadline = time.monotonic() + seconds
        while left := self.pending(*hooks):
            assert time.monotonic() < deadline, f"{left} deliveries are still pending"
            time.sleep(0.05)


@dataclass
class Count:
    """What became of the deliveries. Everything but `promised`, `sent` and `repeated` must be empty."""

    promised: int = 0
    sent: int = 0
    repeated: int = 0
    unsettled: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.unsettled or self.missing or self.disordered or self.changed or self.forged)


def judge(site: Site) -> Count:
    """Compare what was promised with what receivers took."""
    found = Count()
    by_hook: dict[str, list[Any]] = defaultdict(list)
    for row in site.rows():
        by_hook[row.endpoint_id].append(row)
    for hook in site.hooks:
        got = [r for r in hook.receiver.received if r.path == hook.path]
        _judge_hook(found, hook, by_hook[hook.id], got)
    return found


def _judge_hook(found: Count, hook: Hook, rows: list[Any], got: list[Received]) -> None:
    found.promised += len(rows)
    found.sent += len(got)
    found.unsettled += [row.id for row in rows if row.state != "success"]
    accepted: dict[str, int] = {}
    contents: dict[str, set[str]] = defaultdict(set)
    for place, request in enumerate(got):
        contents[request.event_id].add(request.body)
        if request.accepted:
            accepted.setdefault(request.event_id, place)
    found.repeated += len(got) - len(contents)
    found.missing += [row.event_id for row in rows if row.event_id not in accepted]
    found.changed += [event_id for event_id, its in contents.items() if len(its) > 1]
    last: dict[str, int] = {}
    for row in rows:  # in the order of their task
        place = accepted.get(row.event_id, -1)
        if place < last.get(row.task_id, -1):
            found.disordered.append(row.event_id)
        last[row.task_id] = max(place, last.get(row.task_id, -1))
    verifier = standardwebhooks.Webhook(hook.secret)
    for request in got:
        try:
            verifier.verify(request.body, request.headers)
        except standardwebhooks.WebhookVerificationError:
            found.forged.append(request.event_id)


def delays(site: Site, hook: Hook, since: float = 0.0) -> list[float]:
    """Seconds from each event's commit (after `since`, epoch seconds) to its arrival at the receiver, sorted."""
    rows = [row for row in site.rows() if row.endpoint_id == hook.id and row.created_at >= since]
    made = {row.event_id: row.created_at for row in rows}
    first: dict[str, float] = {}
    for request in hook.receiver.received:
        if request.path == hook.path and request.accepted:
            first.setdefault(request.event_id, request.at)
    return sorted(first[event_id] - at for event_id, at in made.items())


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the sorted `values` does not exceed."""
    return values[min(len(values) - 1, int(len(values) * share))]
