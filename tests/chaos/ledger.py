"""The ledger: what agents did, one line an act, in a file that no part of Runyard reads or writes.

A line is one write to a file opened for appending: it is whole whichever process dies, and it is never changed.
Times are the host's monotonic clock, which all processes of a host share and no clock step moves.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: The variable that names the file.
VARIABLE = "CHAOS_LEDGER"
#: Acts: an agent's code begins and ends, gives a sign of life, a step's function begins and ends.
ENTER, LEAVE, TICK, BEGIN, END = "enter", "leave", "tick", "begin", "end"


@dataclass(frozen=True, slots=True)
class Act:
    """One line. `thread` is whether the code ran in a thread, `at` is in seconds of the monotonic clock."""

    at: float
    task_id: str
    attempt: int
    life: str
    pid: int
    thread: bool
    phase: str
    step: str


class Life:
    """One execution of an agent's code, as it notes itself. Two executions of one attempt have two names."""

    def __init__(self, task_id: str, attempt: int, thread: bool = False) -> None:
        self._head = f"{task_id} {attempt} {os.urandom(6).hex()} {os.getpid()} {int(thread)}"
        self.note(ENTER)

    def note(self, phase: str, step: str = "-") -> str:
        """Append a line; returns the step's name."""
        line = f"{time.clock_gettime(time.CLOCK_MONOTONIC):.6f} {self._head} {phase} {step}\n"
        handle = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
        return step

    def tick(self) -> None:
        """A sign of life outside of steps."""
        self.note(TICK)


@dataclass(slots=True)
class Lived:
    """One execution as the ledger has it, its acts in order."""

    name: str
    attempt: int
    pid: int
    acts: list[Act] = field(default_factory=list)

    @property
    def began(self) -> float:
        return self.acts[0].at

    def of(self, phase: str) -> list[Act]:
        """The acts of one kind."""
        return [act for act in self.acts if act.phase == phase]


class Ledger:
    """The file, read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def acts(self) -> list[Act]:
        """Every line, in the order of the file; a half line of a full disk is left out."""
        lines = self.path.read_text().split("\n")[:-1] if self.path.exists() else []
        return [_parse(line) for line in lines]

    def lives(self) -> dict[str, list[Lived]]:
        """The executions of each task, in the order in which they began."""
        return by_task(self.acts())

    @property
    def size(self) -> int:
        """Bytes so far: it has grown when something was done."""
        return self.path.stat().st_size if self.path.exists() else 0


def by_task(acts: Iterable[Act]) -> dict[str, list[Lived]]:
    """Acts by task and execution."""
    found: dict[str, dict[str, Lived]] = defaultdict(dict)
    for act in acts:
        its = found[act.task_id]
        if act.life not in its:
            its[act.life] = Lived(act.life, act.attempt, act.pid)
        its[act.life].acts.append(act)
    return {task_id: sorted(its.values(), key=lambda life: life.began) for task_id, its in found.items()}


def _parse(line: str) -> Act:
    at, task_id, attempt, life, pid, thread, phase, step = line.split(" ")
    return Act(float(at), task_id, int(attempt), life, int(pid), thread == "1", phase, step)
