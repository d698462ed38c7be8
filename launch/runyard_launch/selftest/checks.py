"""What the selftest tries, a function for each promise. Each waits for a bounded time, and gives a line."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from runyard import Client
from runyard.client_results import ClientError
from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from runyard_common.identity.service import identity
from runyard_common.outbound.policy import OutboundPolicy
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.service.runs import Caller, RunRules
from runyard_common.schedules.rules.new_schedule import Wanted
from runyard_common.schedules.service import schedules
from runyard_common.settings import Settings
from runyard_common.webhooks.queries import delivery_log
from runyard_common.webhooks.queries.delivery_log import DeliveryRow
from runyard_launch.selftest.agents import NAME
from runyard_launch.selftest.canaries import Canaries, is_of_selftest, wait_for
from runyard_launch.selftest.forwarder import Forwarder
from runyard_launch.selftest.organisation import Organisation
from runyard_launch.selftest.processes import Processes
from runyard_launch.selftest.receiver import Receiver
from runyard_launch.selftest.report import Line, judged, percentile, repeated

#: Seconds for which a few runs may take on a busy machine, and a broker stays away.
PATIENCE: Final = 30.0
AWAY: Final = 4.0
#: Seconds beyond the lease within which a lost worker's runs go on (docs/operations.md).
RESCUE: Final = 5.0
#: How long before its time a schedule is made, in seconds, and how late it may fire without a remark.
AHEAD: Final = 2.0
LATE: Final = 1.0
_CANARIES: Final = 20
_STEPS: Final = 5
_CALLED: Final = 3


@dataclass(frozen=True)
class Site:
    """A deployment and what the selftest has of its own in it. Without `forwarder` the broker cannot be cut off."""

    settings: Settings
    canaries: Canaries
    organisation: Organisation
    processes: Processes
    forwarder: Forwarder | None

    @property
    def rescue_s(self) -> float:
        """Seconds within which a killed worker's run goes on."""
        return self.settings.lease_seconds + RESCUE


def workers(site: Site) -> Line:
    """Whether the deployment has workers of its own: the selftest's own do not count."""
    alive = [worker for worker in site.canaries.workers() if not is_of_selftest(worker)]
    claiming = [worker for worker in alive if not worker.draining]
    figures = {"workers": len(alive), "draining": len(alive) - len(claiming)}
    if not claiming:
        return Line(
            "workers", "failed", "no worker of this deployment claims runs: start `runyard worker`", figures
        )
    return Line("workers", "ok", f"{len(claiming)} of the deployment's own claim runs", figures)


def api(site: Site) -> Line:
    """Whether the api stores a run that its caller can follow to its end."""
    url = site.settings.local_url
    began = time.monotonic()
    try:
        with Client(url, api_key=site.organisation.key, patience=3.0) as client:
            run = client.run(NAME, {"steps": 1}, wait=False)
            accepted = time.monotonic() - began
            ended = client.wait(run.id, timeout=PATIENCE)
    except ClientError as error:
        hint = "Run the selftest where the api listens, with its RUNYARD_HOST and RUNYARD_PORT"
        return Line("api", "warning", f"{url} was not tried: {error}. {hint}")
    figures = {"accept_s": round(accepted, 3), "whole_s": round(time.monotonic() - began, 3)}
    if ended.status != "completed":
        return Line("api", "failed", f"a run by {url} is {ended.status} after {PATIENCE:g} s", figures)
    return Line("api", "ok", f"a run was accepted in {accepted:.3f} s, and its end seen", figures)


def canary(site: Site) -> Line:
    """Whether runs complete, each once, and how long they wait and take."""
    ids = site.canaries.submit(_CANARIES)
    done = site.canaries.ended(ids, PATIENCE)
    waits = [task.started_at - task.created_at for task in done if task.started_at]
    times = [task.finished_at - task.started_at for task in done if task.started_at and task.finished_at]
    lost, again = _CANARIES - len(done), repeated(site.canaries.executed(), ids)
    figures = {
        "runs": _CANARIES, "lost": lost, "duplicates": again,
        "wait_p50_s": percentile(waits, 0.5), "wait_p95_s": percentile(waits, 0.95),
        "run_p50_s": percentile(times, 0.5), "run_p95_s": percentile(times, 0.95),
    }  # fmt: skip
    text = (
        f"{len(done)} of {_CANARIES} runs completed; waited {_of(figures, 'wait')} s, took {_of(figures, 'run')} s "
        f"(p50, p95); duplicates: {again}"
    )
    return judged("runs", _broken(lost, again), "", text, figures)


def killed_worker(site: Site) -> Line:
    """Whether the run of a worker that dies goes on after its last step, and how soon."""
    (id_,) = site.canaries.submit(1, steps=_STEPS, wait_before=2)
    if not wait_for(lambda: site.canaries.steps(id_) == 2, PATIENCE):
        return Line(
            "worker killed", "failed", f"its run had not begun after {PATIENCE:g} s: see the line `runs`"
        )
    owner = site.canaries.tasks([id_])[0].lease_owner
    pid = next((worker.pid for worker in site.canaries.workers() if worker.id == owner), 0)
    name = site.processes.pids().get(pid)
    if name is None:
        return Line(
            "worker killed", "warning", f"not tried: process {pid}, which has the run, is not the selftest's"
        )
    site.processes.kill(name)
    site.canaries.go_on()
    began = time.monotonic()
    back = wait_for(lambda: site.canaries.steps(id_) > 2, 4 * site.rescue_s)
    recovery = round(time.monotonic() - began, 3)
    done = site.canaries.ended([id_], PATIENCE) if back else []
    again = repeated(site.canaries.executed(), [id_])
    (task,) = site.canaries.tasks([id_])
    figures = {
        "recovery_s": recovery if back else None, "lease_s": site.settings.lease_seconds, "attempts": task.attempt,
        "steps": site.canaries.steps(id_), "lost": 1 - len(done), "duplicates": again,
    }  # fmt: skip
    broken = _broken(1 - len(done), again)
    if broken and not back:
        broken = [f"its run did not go on within {4 * site.rescue_s:g} s: is a scheduler running?"]
    late = f"later than {site.rescue_s:g} s (lease and {RESCUE:g} s)" if recovery > site.rescue_s else ""
    text = f"its run went on after {recovery:.1f} s, attempt {task.attempt}; steps executed again: {again}"
    return judged("worker killed", broken, late, text if back else f"attempt {task.attempt}", figures)


def broker_cut(site: Site) -> Line:
    """Whether runs that are submitted while workers have no broker complete, and workers find it again."""
    forwarder = site.forwarder
    if forwarder is None:
        hint = "Only redis:// and amqp:// to one host can be cut; try it by a restart of the broker"
        return Line(
            "broker cut", "warning", f"not tried: the broker's connections are encrypted or local. {hint}"
        )
    if not forwarder.connected:
        return Line("broker cut", "failed", "no worker could connect to the broker: see the line `broker`")
    connections = forwarder.cut()
    began = time.monotonic()
    ids = site.canaries.submit(10)
    first = wait_for(lambda: any(task.finished_at for task in site.canaries.tasks(ids)), AWAY)
    time.sleep(max(0.0, AWAY - (time.monotonic() - began)))
    forwarder.restore()
    done = site.canaries.ended(ids, PATIENCE)
    found = wait_for(lambda: forwarder.reconnected_s is not None, PATIENCE)
    lost, again = len(ids) - len(done), repeated(site.canaries.executed(), ids)
    last = max((task.finished_at - task.created_at for task in done if task.finished_at), default=None)
    figures = {
        "away_s": AWAY, "connections": connections, "runs": len(ids), "lost": lost, "duplicates": again,
        "last_done_s": None if last is None else round(last, 3),
        "reconnected_s": None if forwarder.reconnected_s is None else round(forwarder.reconnected_s, 3),
    }  # fmt: skip
    broken = _broken(lost, again)
    if not found:
        broken.append(f"no worker connected again within {PATIENCE:g} s")
    if site.processes.ended():
        broken.append(f"{', '.join(site.processes.ended())} ended")
    meanwhile = "runs went on meanwhile" if first else "runs waited until it was back"
    again_s = "never" if forwarder.reconnected_s is None else f"after {forwarder.reconnected_s:.1f} s"
    text = f"{connections} connections for {AWAY:g} s; {meanwhile}, connected again {again_s}; duplicates: {again}"
    return judged("broker cut", broken, "", text, figures)


def schedule(site: Site, schedulers: str) -> Line:
    """Whether a date fires exactly once. `schedulers` is who is to see it."""
    part = f"schedule, {schedulers}"
    store, org_id = site.canaries.store, site.organisation.id
    rules = RunRules.of(site.settings, identity.sealer(site.settings), keyed=False)
    with store.begin() as tx:
        due = tx.now + AHEAD
        wanted = Wanted(datetime.fromtimestamp(due, UTC).isoformat())
        agent = agents.resolve(OrgScope(tx.conn, org_id), NAME)
        request = RunRequest.model_validate({"args": {"steps": 1}})
        prepared = schedules.prepare(wanted, request, agent, Caller(org_id, "selftest"), rules, now=tx.now)
        made = schedules.create(tx, prepared)
    due = made.next_due_at or due

    def fired() -> list[str]:
        with store.read() as conn:
            return [task.id for task in tasks.page(OrgScope(conn, org_id), Filter(schedule_id=made.id), 10)]

    if not wait_for(fired, AHEAD + PATIENCE):
        text = f"a schedule has not fired {PATIENCE:g} s after its time: start `runyard scheduler`"
        return Line(part, "failed", text, {"fires": 0})
    done = site.canaries.ended(fired(), PATIENCE)
    late = round(min(task.created_at for task in site.canaries.tasks(fired())) - due, 3)
    fires = len(fired())
    figures = {"fires": fires, "late_s": late, "duplicates": fires - 1, "lost": fires - len(done)}
    broken = ([f"it fired {fires} times"] if fires > 1 else []) + _broken(fires - len(done), 0)
    remark = f"later than {LATE:g} s" if late > LATE else ""
    return judged(
        part, broken, remark, f"fired {'once' if fires == 1 else fires}, {late:.2f} s late", figures
    )


def webhooks(site: Site) -> Line:
    """Whether callbacks arrive although the receiver fails at first: signed, in order, none lost."""
    if (reason := _unreachable(site)) is not None:
        return Line("webhooks", "warning", f"not tried: {reason}")
    receiver = Receiver(site.organisation.webhook_secret)
    try:
        began = time.monotonic()
        ids = site.canaries.submit(_CALLED, receiver.url)
        site.canaries.ended(ids, PATIENCE)
        wait_for(lambda: _all_settled(site, ids), PATIENCE)
        return _called(site, receiver, ids, time.monotonic() - began)
    finally:
        receiver.close()


def _called(site: Site, receiver: Receiver, ids: list[str], seconds: float) -> Line:
    lost = again = disordered = promised = 0
    for id_ in ids:
        expected = [row.event_id for row in _deliveries(site, id_)]
        got = receiver.order.get(id_, [])
        promised += len(expected)
        lost += sum(event not in receiver.accepted for event in expected)
        again += sum(receiver.accepted[event] - 1 for event in got)
        disordered += got != [event for event in expected if event in got]
    lost += promised == 0
    figures = {
        "callbacks": promised, "lost": lost, "duplicates": again, "out_of_order": disordered,
        "unsigned": receiver.unsigned, "answered_500": receiver.failures, "whole_s": round(seconds, 3),
    }  # fmt: skip
    broken = [
        text
        for bad, text in (
            (lost, f"{lost} callbacks lost within {PATIENCE:g} s: undrained workers deliver them"),
            (disordered, f"{disordered} runs out of order"),
            (receiver.unsigned, f"{receiver.unsigned} calls whose signature does not hold"),
        )
        if bad
    ]
    text = (
        f"{promised - lost} of {promised} callbacks arrived in {seconds:.1f} s, signed and in order, after "
        f"{receiver.failures} answers of 500; duplicates: {again}"
    )
    return judged("webhooks", broken, "", text, figures)


def _unreachable(site: Site) -> str | None:
    """Why the deployment's workers cannot call a receiver on this machine's loopback, or None."""
    loopback = "127.0.0.1"
    if OutboundPolicy.of(site.settings).refuses(ip_address(loopback), loopback, 0) is not None:
        return (
            "callbacks to loopback are refused. Set RUNYARD_ALLOWED_HOSTS=127.0.0.1 for workers and selftest while you "
            "try it"
        )
    elsewhere = {worker.host for worker in site.canaries.workers()} - {socket.gethostname()}
    if elsewhere:
        return f"workers on {', '.join(sorted(elsewhere))} cannot reach a receiver on this machine's loopback"
    return None


def _deliveries(site: Site, task_id: str) -> list[DeliveryRow]:
    """Those of a run, in their order."""
    with site.canaries.store.read() as conn:
        scope = OrgScope(conn, site.organisation.id)
        found = delivery_log.page(scope, delivery_log.Filter(task_id=task_id), 100)
    return sorted(found, key=lambda row: (row.created_at, row.id))


def _all_settled(site: Site, ids: list[str]) -> bool:
    rows = [row for id_ in ids for row in _deliveries(site, id_)]
    return bool(rows) and all(row.state != "pending" for row in rows)


def _broken(lost: int, again: int) -> list[str]:
    found = [f"{lost} did not complete"] if lost else []
    return [*found, f"{again} steps were executed twice"] if again else found


def _of(figures: dict[str, float | int | None], name: str) -> str:
    return f"{figures[f'{name}_p50_s']}, {figures[f'{name}_p95_s']}"
