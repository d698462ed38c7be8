"""The loop: rhythms, punctual duties on threads of their own, faults that end no duty."""

from __future__ import annotations

import threading
import time

import structlog

from runyard_scheduler.loop import Loop
from tests.waiting import wait_until


class Chore:
    """Notes when it ran."""

    def __init__(self, name: str, every: float, fault: Exception | None = None) -> None:
        self.name, self.every, self.fault = name, every, fault
        self.runs: list[float] = []

    def run_once(self, now: float | None = None) -> int:
        self.runs.append(time.monotonic())
        if self.fault is not None:
            raise self.fault
        return 0


class Timed(Chore):
    """A punctual one, wanted once at `at` (monotonic)."""

    def __init__(self, name: str, every: float, at: float) -> None:
        super().__init__(name, every)
        self.at = at
        self.due_in: float | None = None
        self.late: list[float] = []

    def run_once(self, now: float | None = None) -> int:
        super().run_once(now)
        left = self.at - time.monotonic()
        if left <= 0:
            self.late.append(-left)
        self.due_in = left if left > 0 else None
        return 0


class Stuck(Chore):
    """Runs until it is let go."""

    def __init__(self) -> None:
        super().__init__("stuck", 0.01)
        self.let_go = threading.Event()

    def run_once(self, now: float | None = None) -> int:
        super().run_once(now)
        self.let_go.wait(50)
        return 0


def drive(*duties: Chore) -> tuple[Loop, threading.Thread]:
    loop = Loop(duties)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    return loop, thread


def test_a_fault_of_one_duty_leaves_the_others_running() -> None:
    bad, good = Chore("bad", 0.01, ValueError("x")), Chore("good", 0.01)
    loop, thread = drive(bad, good)
    wait_until(lambda: len(good.runs) > 5)
    loop.stop()
    thread.join(50)
    assert not thread.is_alive()
    assert len(bad.runs) < len(good.runs), "after a fault a duty rests longer than its rhythm"


def test_a_stuck_chore_does_not_delay_a_punctual_duty_nor_the_rhythm_its_time() -> None:
    stuck = Stuck()
    timed = Timed("timed", 30.0, time.monotonic() + 0.3)
    loop, thread = drive(stuck, timed)
    wait_until(lambda: timed.late)
    assert stuck.runs
    assert timed.late[0] < 10, "it woke for its time, not for its rhythm of 30 s"
    stuck.let_go.set()
    loop.stop()
    thread.join(50)
    assert not thread.is_alive()


def test_a_fault_is_logged_when_it_begins_changes_and_ends_and_not_at_every_run() -> None:
    chore = Chore("chore", 0.0)
    loop = Loop([chore])
    with structlog.testing.capture_logs() as logs:
        for fault in (ValueError("x"), ValueError("x"), ValueError("y"), None, None, ValueError("y")):
            chore.fault = fault
            loop._run(chore)
    assert [(log["log_level"], log.get("error")) for log in logs] == [
        ("warning", "x"), ("warning", "y"), ("info", None), ("warning", "y"),
    ]  # fmt: skip


def test_a_pass_over_nothing_due_runs_nothing() -> None:
    chore = Chore("chore", 100.0)
    loop = Loop([chore])
    assert 90 < loop.tick([chore]) <= 100
    loop.tick([chore])
    assert len(chore.runs) == 1
