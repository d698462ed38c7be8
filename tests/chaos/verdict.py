"""The verdict: every promise a storm can break, judged by what cannot be rewritten afterwards.

That is the append-only log of each task, the agents' own ledger outside, and the receivers' own record. Each
check yields findings of one kind; a storm is clean when there is none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from runyard_common.runs.rules.lifecycle import OCCUPIES_SLOTS, TERMINAL, Status
from runyard_common.webhooks.rules.callback_events import COMPLETION
from tests.chaos.agents import IRREVERSIBLE
from tests.chaos.evidence import Evidence, Run
from tests.chaos.findings import Finding, Rules, Verdict
from tests.chaos.ledger import BEGIN, END, ENTER, LEAVE, TICK, Lived
from tests.chaos.poison import ENDS

_ENDS: Final = {"finish", "fail", "expire", "stop"}
#: Two events of different transactions carry the times at which those began; so much they may cross, in seconds.
_CROSSING: Final = 0.25
#: How much later than its event's time a step's transaction has committed, at most, in seconds.
_COMMIT: Final = 1.0
#: A step's function that was handed to a thread before its process was stopped begins so soon after it goes on.
_HANDED_TO_THREAD: Final = 0.1
#: Poison may begin again as often as others end its process before its own end is on record.
_CUT_SHORT: Final = 3
#: By which act an agent shows that it has done what an event reports.
_DONE: Final = {"step": END, "finish": LEAVE}
_BLOCKING: Final = ("blocks_loop", "spins")
#: The exit status of a process that the timer below the interpreter ends: faulthandler's `exit=True`, or SIGSEGV as
#: it reads the stacks of threads that go on.
ENDED_BY_TIMER: Final = (1, -11)


def judge(evidence: Evidence, rules: Rules) -> Verdict:
    """Judge a storm."""
    verdict = Verdict(tasks=len(evidence.orders))
    for run in evidence.runs.values():
        verdict.statuses[run.task.status.value] += 1
        if run.task.status is Status.FAILED and run.task.error is not None:
            verdict.errors[str(run.task.error["code"])] += 1
    for kind, check in CHECKS.items():
        verdict.findings += [Finding(kind, text) for text in check(evidence, rules)]
    _count(verdict, evidence)
    return verdict


def _refused(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A client that tries again with the same key is never accepted."""
    yield from evidence.refused


def _lost(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """An accepted run has no row."""
    yield from (task_id for task_id in evidence.orders if task_id not in evidence.runs)


def _unfinished(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A run has not ended, though all had time to."""
    for run in evidence.runs.values():
        if run.task.status not in TERMINAL:
            yield f"{run.label} is {run.task.status.value}, attempt {run.task.attempt}, {run.task.error}"


def _ownerless(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A run is running and its owner has no row: nothing will ever look at it."""
    for run in evidence.runs.values():
        if run.task.status is Status.RUNNING and run.task.lease_owner not in evidence.worker_ids:
            yield f"{run.label} names {run.task.lease_owner}"


def _two_ends(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for run in evidence.runs.values():
        ends = [event["type"] for event in run.log if event["type"] in _ENDS]
        if len(ends) > 1:
            yield f"{run.label}: {ends}"


def _gaps(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for run in evidence.runs.values():
        if [event["seq"] for event in run.log] != list(range(1, run.task.last_seq + 1)):
            yield run.label


def _steps_repeated(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A step's function begins after the first event of its end was committed.

    A later attempt's execution is one, even against the clocks: its claim came after that event.
    """
    for run in evidence.runs.values():
        done: dict[str, Mapping[str, Any]] = {}
        for event in run.events("step"):
            done.setdefault(event["data"]["name"], event)
        for life, act in _begun(run):
            if act.step not in done:
                continue
            event = done[act.step]
            late = rules.wall_clock and act.at + evidence.offset > event["at"] + _COMMIT
            if life.attempt > event["attempt"] or late:
                yield f"{run.label}: {act.step} by attempt {life.attempt}, done in attempt {event['attempt']}"


def _begun(run: Run) -> Iterator[tuple[Lived, Any]]:
    for life in run.lives:
        for act in life.of(BEGIN):
            yield life, act


def _irreversible_twice(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for run in evidence.runs.values():
        begun = Counter(act.step for _, act in _begun(run) if act.step.startswith(IRREVERSIBLE))
        yield from (f"{run.label}: {step} {times} times" for step, times in begun.items() if times > 1)


def _two_lives(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A life begins a step, or goes on for longer than a lease, after its successor has begun."""
    for run in evidence.runs.values():
        for earlier, later in pairwise(run.lives):
            for act in earlier.acts:
                over = act.at - later.began
                if over <= 0 or (act.thread and _was_handed_on(evidence, act)):
                    continue
                step = act.phase == BEGIN and over > (rules.lease if rules.lost_claims else 0.0)
                if step or (act.phase == TICK and over > rules.lease + 1.0):
                    yield (
                        f"{run.label}: attempt {earlier.attempt} (pid {earlier.pid}) {act.phase} {act.step} "
                        f"{over:.2f} s after attempt {later.attempt} (pid {later.pid}) began"
                    )
                    break


def _was_handed_on(evidence: Evidence, act: Any) -> bool:
    return any(pid == act.pid and 0 <= act.at - at < _HANDED_TO_THREAD for pid, at in evidence.resumed)


def _stale_writes(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """An attempt that owns its task no more writes: its event comes after a later claim, or under another's number.

    A step or a completed run is on record as the work of an attempt that had not done it by then.
    """
    for run in evidence.runs.values():
        attempt = 0
        for event in run.log:
            if event["attempt"] < attempt:
                yield f"{run.label}: {event['type']} of attempt {event['attempt']} in attempt {attempt}"
            attempt = max(attempt, event["attempt"])
            done = _DONE.get(event["type"])
            if done is not None and run.innocent and rules.wall_clock:
                step = event["data"].get("name", "-")
                by = event["at"] - evidence.offset + _CROSSING
                did = {
                    life.attempt
                    for life in run.lives
                    for act in life.of(done)
                    if act.step == step and act.at < by
                }
                if event["attempt"] not in did:
                    yield f"{run.label}: {event['type']} {step} in attempt {attempt}, done by attempts {did or 'none'}"


def _over_limit(evidence: Evidence, rules: Rules) -> Iterator[str]:
    if not rules.wall_clock:
        return
    changes: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for run in evidence.runs.values():
        changes[run.task.agent_name].extend(_occupying(run))
    for name, most in rules.limits.items():
        occupied = 0
        for at, change in sorted(changes[name]):
            occupied += change
            if occupied > most and change > 0:
                yield f"{name}: {occupied} runs at {at:.2f}, the limit is {most}"


def _occupying(run: Run) -> Iterator[tuple[float, int]]:
    """When a run began (+1) and ceased (-1) to occupy its slots, by the statuses in its log."""
    occupies = False
    for event in run.log:
        now = Status(event["data"]["status"]) in OCCUPIES_SLOTS
        if now != occupies:
            yield event["at"] + (_CROSSING if now else 0.0), 1 if now else -1
            occupies = now


def _innocents_failed(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for run in evidence.runs.values():
        if run.innocent and run.task.status in (Status.FAILED, Status.STOPPED):
            yield f"{run.label}: {run.task.error}, retries {run.task.retries}"


def _declared_not_recovered(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """An agent that declares retries for its own errors fails by the loss of a worker."""
    for run in evidence.runs.values():
        error = run.task.error or {}
        lost = run.task.status is Status.FAILED and error.get("cause") == "infrastructure"
        if lost and run.order is not None and run.order.kind == "declared":
            yield f"{run.label}: {error}"


def _innocents_charged(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """What a neighbour, a deploy or an outage does is not charged; what the storm did to its own worker is."""
    for run in evidence.runs.values():
        charged = sum((run.task.retries or {}).values())
        struck = sum(event["data"].get("worker") in evidence.struck for event in run.events("rescue"))
        if run.innocent and charged > rules.most_charges + struck:
            yield f"{run.label}: {run.task.retries}, {struck} of them by blows"


def _poison_ends(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for run in evidence.runs.values():
        if run.order is None or run.order.poison is None or run.task.status not in TERMINAL:
            continue
        ends, code = ENDS[run.order.poison], (run.task.error or {}).get("code")
        if not ends.allow(run.task.status.value, code):
            yield f"{run.label}: {run.task.status.value} {run.task.error}"
        elif len(run.lives) > ends.attempts + _CUT_SHORT:
            yield f"{run.label}: {len(run.lives)} lives, {ends.attempts} are enough"


def _blocked_too_long(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for run, seconds in _blocked(evidence):
        if seconds > 2 * rules.lease + 1.0:
            yield f"{run.label}: {seconds:.1f} s"


def _blocked(evidence: Evidence) -> Iterator[tuple[Run, float]]:
    """How long each run that blocked its worker's loop did so, until its end was on record."""
    for run in evidence.runs.values():
        if run.order and run.order.poison in _BLOCKING and run.lives:
            ends = [event["at"] for event in run.log if event["type"] in _ENDS]
            if ends:
                yield run, ends[0] - (run.lives[-1].began + evidence.offset)


def _idle_releases(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A run is handed back again and again, free of charge, without any progress. Orderly drains are none of it."""
    for run in evidence.runs.values():
        idle = most = 0
        for event in run.log:
            if event["type"] in ("step", "answer", "decide"):
                idle = 0
            idle += event["type"] == "release" and event["data"].get("reason") != "drain"
            most = max(most, idle)
        if most > rules.most_idle_releases:
            yield f"{run.label}: {most} in a row"


def _hot_loops(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for run in evidence.runs.values():
        if run.task.attempt > rules.most_attempts:
            yield f"{run.label}: {run.task.attempt} attempts"


def _undelivered(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A promised callback is neither accepted by its receiver nor visibly dead."""
    accepted = {request.event_id for request in evidence.received if request.accepted}
    last = {row.task_id for row in evidence.deliveries if row.event_type in COMPLETION.values()}
    for row in evidence.deliveries:
        if row.state == "pending" or (row.state == "success" and row.event_id not in accepted):
            yield f"{row.event_type} of {row.task_id}: {row.state}, {row.error}"
    for run in evidence.runs.values():
        if run.task.has_callback and run.task.status in TERMINAL and run.task.id not in last:
            yield f"the end of {run.label} was never promised"


def _disordered(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """The receiver took a run's callbacks in another order than they were promised in."""
    place: dict[str, int] = {}
    for number, request in enumerate(evidence.received):
        if request.accepted:
            place.setdefault(request.event_id, number)
    for before, after in pairwise(row for row in evidence.deliveries if row.event_id in place):
        if before.order_key == after.order_key and place[before.event_id] > place[after.event_id]:
            yield f"{after.event_type} before {before.event_type} of {after.task_id}"


def _bad_exits(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A process ended by itself, or did not end in order within its grace period.

    A worker that was suspended for long ends when it goes on (see isolation.watchdog): others have its runs.
    """
    suspended = {pid for pid, _ in evidence.resumed}
    for exit_ in evidence.exits:
        if exit_.code in ENDED_BY_TIMER and exit_.pid in suspended:
            continue
        if exit_.how == "ordered" and exit_.code != 0:
            yield f"{exit_.name}: exit {exit_.code} {exit_.seconds:.1f} s after SIGTERM"
        if exit_.how == "itself" and not (rules.deadly and exit_.name.startswith("worker")):
            yield f"{exit_.name}: exit {exit_.code} by itself"


def _disorderly(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """Where every worker ends in order, none leaves a run behind for a rescue or a later heartbeat to find."""
    for run in evidence.runs.values() if rules.orderly else ():
        for event in run.events("rescue", "release"):
            if event["type"] == "rescue" or event["data"].get("reason") not in ("drain", None):
                yield f"{run.label}: {event['type']} {event['data']}"


Check = Callable[[Evidence, Rules], Iterator[str]]
CHECKS: Final[dict[str, Check]] = {
    "never accepted": _refused,
    "lost": _lost,
    "unfinished": _unfinished,
    "without owner": _ownerless,
    "two ends": _two_ends,
    "gaps in the log": _gaps,
    "step repeated": _steps_repeated,
    "irreversible twice": _irreversible_twice,
    "two lives": _two_lives,
    "stale write": _stale_writes,
    "over a limit": _over_limit,
    "innocent failed": _innocents_failed,
    "declared retries not recovered": _declared_not_recovered,
    "innocent charged": _innocents_charged,
    "wrong end of poison": _poison_ends,
    "loop blocked too long": _blocked_too_long,
    "released without progress": _idle_releases,
    "hot loop": _hot_loops,
    "callback not delivered": _undelivered,
    "callbacks out of order": _disordered,
    "process ended": _bad_exits,
    "left behind by an orderly stop": _disorderly,
}


def _count(verdict: Verdict, evidence: Evidence) -> None:
    """What a reader wants to know beside the findings."""
    for run in evidence.runs.values():
        verdict.counts["attempts"] += run.task.attempt
        for event in run.events("rescue", "release", "retry"):
            verdict.counts[event["type"]] += 1
        verdict.counts["lives"] += sum(len(life.of(ENTER)) for life in run.lives)
    for exit_ in evidence.exits:
        verdict.counts[f"exits {exit_.how}"] += 1
    for row in evidence.deliveries:
        verdict.counts[f"callbacks {row.state}"] += 1
    verdict.times["from a worker's death to a rescue"] = [
        event["at"] - evidence.struck[event["data"]["worker"]]
        for run in evidence.runs.values()
        for event in run.events("rescue")
        if event["data"].get("worker") in evidence.struck
    ]
    verdict.times["loop blocked"] = [seconds for _, seconds in _blocked(evidence)]
