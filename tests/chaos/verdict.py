"""What must be true after a chaos run, counted from the rows and the agents' own ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import select

from common.domain.lifecycle import HOLDING, TERMINAL, Status
from common.store import events, journal, tasks
from common.store.database import Database
from common.store.tables.query import Task, TaskEvent
from common.store.transaction import Store

_ENDS = {"finish", "fail", "expire", "stop"}
#: Two events of different transactions carry the times at which those began; so much they may cross, in seconds.
_CROSSING = 0.25


@dataclass
class Verdict:
    """The counts. Everything but `tasks`, `statuses`, `errors` and the times must be 0."""

    tasks: int = 0
    lost: int = 0
    unfinished: int = 0
    two_ends: int = 0
    gaps: int = 0
    steps_repeated: int = 0
    stale_writes: int = 0
    limit_exceeded: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    handed_on_s: list[float] = field(default_factory=list)
    resumed_s: list[float] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not any((self.lost, self.unfinished, self.two_ends, self.gaps, self.steps_repeated,
                        self.stale_writes, self.limit_exceeded))  # fmt: skip

    def __str__(self) -> str:
        return (
            f"tasks {self.tasks}: {dict(self.statuses)} {dict(self.errors)}\n"
            f"lost {self.lost}, unfinished {self.unfinished}, with two terminal events {self.two_ends}, "
            f"logs with gaps {self.gaps}\n"
            f"journaled steps repeated {self.steps_repeated}, "
            f"writes accepted from a stale fence {self.stale_writes}, moments over a limit {self.limit_exceeded}\n"
            f"from a worker's death until a run it held was handed on: {_spread(self.handed_on_s)}\n"
            f"until it ran again, waiting its turn and its back-off: {_spread(self.resumed_s)}"
        )


def _spread(times: list[float]) -> str:
    if not times:
        return "none"
    ordered = sorted(times)
    return f"p50 {ordered[len(ordered) // 2]:.1f} s, max {ordered[-1]:.1f} s ({len(ordered)} runs)"


def recoveries(database_url: str, deaths: dict[str, float]) -> tuple[list[float], list[float]]:
    """For every run that a dead worker held: seconds from its death to the rescue, and to the next claim."""
    handed_on: list[float] = []
    resumed: list[float] = []
    db = Database(database_url)
    with db.read() as conn:
        rows = conn.execute(
            select(TaskEvent.task_id, TaskEvent.type, TaskEvent.at, TaskEvent.data)
            .where(TaskEvent.type.in_(["rescue", "claim"]))
            .order_by(TaskEvent.task_id, TaskEvent.seq)
        ).all()
    db.close()
    for before, after in pairwise(rows):
        died = deaths.get((before.data or {}).get("worker", "")) if before.type == "rescue" else None
        if died is None:
            continue
        handed_on.append(before.at - died)
        if after.type == "claim" and after.task_id == before.task_id:
            resumed.append(after.at - died)
    return handed_on, resumed


def judge(database_url: str, accepted: Sequence[str], ledger: Path, limits: dict[str, int]) -> Verdict:
    """Judge a run by its rows. `limits` gives the most tasks of each agent name at once."""
    verdict = Verdict(tasks=len(accepted))
    db = Database(database_url)
    store = Store(db)
    executions = _executions(ledger)
    with store.read() as conn:
        ids = list(conn.execute(select(Task.id)).scalars())
        verdict.lost = len(set(accepted) - set(ids))
        spans: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for start in range(0, len(ids), 200):
            chunk = ids[start : start + 200]
            loaded, journals = tasks.load(conn, chunk), journal.load(conn, chunk)
            for task in loaded.values():
                log = events.after(conn, task.id, 0, 100_000)
                _judge_log(verdict, task, log)
                _judge_steps(verdict, journals.get(task.id, []), executions.get(task.id, []))
                spans[task.agent_name].extend(_holding(log))
    for name, most in limits.items():
        verdict.limit_exceeded += _over(spans[name], most)
    db.close()
    return verdict


def _judge_log(verdict: Verdict, task: Any, log: list[dict[str, Any]]) -> None:
    verdict.statuses[task.status.value] += 1
    if task.error is not None and task.status is Status.FAILED:
        verdict.errors[f"{task.error['code']}: {task.error['message'][:100]}"] += 1
    verdict.unfinished += task.status not in TERMINAL
    verdict.two_ends += sum(e["type"] in _ENDS for e in log) > 1
    verdict.gaps += [e["seq"] for e in log] != list(range(1, task.last_seq + 1))
    attempt = 0
    for event in log:
        # After an attempt's claim, its predecessors may write nothing.
        verdict.stale_writes += event["attempt"] < attempt
        attempt = max(attempt, event["attempt"])


def _judge_steps(
    verdict: Verdict, entries: list[dict[str, Any]], executions: list[tuple[float, str]]
) -> None:
    ended = {e["name"]: e["ended_at"] for e in entries if e["kind"] == "step" and e["state"] == "done"}
    verdict.steps_repeated += sum(at > ended.get(step, float("inf")) for at, step in executions)


def _executions(ledger: Path) -> dict[str, list[tuple[float, str]]]:
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for line in ledger.read_text().splitlines() if ledger.exists() else ():
        at, task_id, step, _ = line.split()
        found[task_id].append((float(at), step))
    return found


def _holding(log: list[dict[str, Any]]) -> list[tuple[float, int]]:
    """When this task began (+1) and ceased (-1) to hold its slots, by the statuses its log tells."""
    changes: list[tuple[float, int]] = []
    held = False
    for event in log:
        holds = Status(event["data"]["status"]) in HOLDING
        if holds != held:
            changes.append((event["at"] + (_CROSSING if holds else 0.0), 1 if holds else -1))
            held = holds
    return changes


def _over(changes: list[tuple[float, int]], most: int) -> int:
    held = over = 0
    for _, change in sorted(changes):
        held += change
        over += held > most and change > 0
    return over
