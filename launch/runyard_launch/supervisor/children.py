"""One child process: what it is, how it is doing, and when it is started again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runyard_launch.supervisor import process

STEADY_SECONDS = 10.0  # a child that lived this long had started well; it is not given up any more
CALM_SECONDS = 60.0  # an end after so long a life has nothing to do with the one before
GIVE_UP_AFTER = 5  # deaths in a row, each before the child was steady
FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0
CANNOT_WORK = 2  # exit code of a process whose settings cannot work: it would only end again
_LARGEST_LOG = 10 * 2**20


@dataclass(frozen=True)
class Restarts:
    """The recent ends of one child: `deaths` that count towards giving it up, and `ends` in close succession.

    One that was steady before is never given up: its settings work, and what ends it then (an agent that ends its
    worker's process, with any exit code) is no reason to stop everything else.
    """

    deaths: int = 0
    steady: bool = False
    ends: int = 0

    def after(self, lived: float, code: int, *, own_code: bool = False) -> Restarts:
        """The count once the child ended with `code` after `lived` seconds.

        `own_code`: nothing but Runyard's code runs in the child, so that its exit code is its own statement,
        however long it lived.
        """
        ends = 1 if lived >= CALM_SECONDS else self.ends + 1
        if own_code and code == CANNOT_WORK:
            return Restarts(GIVE_UP_AFTER, steady=False, ends=ends)
        if lived >= STEADY_SECONDS:
            return Restarts(deaths=1, steady=True, ends=ends)
        hopeless = code == CANNOT_WORK and not self.steady
        return replace(self, deaths=GIVE_UP_AFTER if hopeless else self.deaths + 1, ends=ends)

    @property
    def given_up(self) -> bool:
        """Whether starting it again is hopeless."""
        return self.deaths >= GIVE_UP_AFTER and not self.steady

    @property
    def repeated(self) -> bool:
        """Whether this end followed closely on another one."""
        return self.ends > 1

    @property
    def delay(self) -> float:
        """Seconds until the next start."""
        return min(FIRST_DELAY * 2.0 ** max(self.ends - 1, 0), LONGEST_DELAY)


@dataclass(frozen=True)
class Spec:
    """What a child is.

    `ready`: whether it serves (None: as soon as it runs). A `once` child does its work and ends with 0.
    `holds_up`: seconds for which later stages wait for it at most, and not at all once it has ended (None: until it
    is ready). `stop_order`: lower ones are stopped first, and have `grace` seconds for it. `repair` is tried when the
    child keeps dying: it may change what is wrong and returns what it did. A child without a `log` speaks on
    the terminal. `runs_agents`: its exit code may be that of an agent's code. `on_end` gets the end of a child that is
    not started again here.
    """

    name: str
    argv: Sequence[str | Path]
    log: Path | None
    env: Mapping[str, str] | None = None
    ready: Callable[[], bool] | None = None
    once: bool = False
    holds_up: float | None = None
    stop_order: int = 1
    grace: float = 10.0
    fds: Sequence[int] = ()
    repair: Callable[[], str | None] | None = None
    runs_agents: bool = False
    on_end: Callable[[Child, int], None] | None = None


@dataclass
class Child:
    """One child's current process and its history."""

    spec: Spec
    restarts: Restarts = field(default_factory=Restarts)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float | None = None  # when to start it again
    is_ready: bool = False
    exit_code: int | None = None
    agents_reported: bool = False  # what this life wrote on agents that cannot be loaded was shown
    _ticks: int = 0  # of the processor that it had used at the last look
    _log_start: int = 0  # where this life's lines begin in the log

    @property
    def name(self) -> str:
        """Its name, as in the names of logs."""
        return self.spec.name

    @property
    def running(self) -> bool:
        """Whether its process has not ended, as far as was looked."""
        return self.process is not None and self.process.returncode is None

    def start(self) -> None:
        """Start it; OSError if its program cannot be run."""
        if self.spec.log:
            _rotate(self.spec.log)
            self._log_start = self.spec.log.stat().st_size if self.spec.log.exists() else 0
        self.process = process.spawn(self.spec.argv, log=self.spec.log, env=self.spec.env, fds=self.spec.fds)
        self.started, self.due, self.exit_code = time.monotonic(), None, None
        self.agents_reported = False
        self.is_ready = self.spec.ready is None and not self.spec.once

    def at_work(self) -> bool:
        """Whether it has used the processor since the last look, or waits for it: slow then, not hung."""
        if self.process is None:
            return False
        before = self._ticks
        self._ticks, at_work = process.activity(self.process.pid)
        return at_work or self._ticks > before

    @property
    def holds_up(self) -> bool:
        """Whether later stages still wait for it."""
        if self.is_ready or self.spec.holds_up is None:
            return not self.is_ready
        return self.restarts.deaths == 0 and self.lived < self.spec.holds_up

    def ended(self) -> int | None:
        """Its exit code, once: None while it runs, and after the first call."""
        if self.process is None or self.process.returncode is not None:
            return None
        self.exit_code = self.process.poll()
        if self.exit_code is not None:
            self.is_ready = self.spec.once and self.exit_code == 0
        return self.exit_code

    @property
    def lived(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    def check_ready(self) -> bool:
        """Whether it is ready now and was not before."""
        if self.is_ready or not self.running or self.spec.ready is None:
            return False
        self.is_ready = self.spec.ready()
        return self.is_ready

    def last_lines(self, count: int = 15) -> list[str]:
        """The end of its log, as far as its present or last life wrote it."""
        if self.spec.log is None or not self.spec.log.exists():
            return []
        with self.spec.log.open("rb") as file:
            file.seek(max(self._log_start, self.spec.log.stat().st_size - 16_384))
            return file.read().decode(errors="replace").strip().splitlines()[-count:]


def _rotate(log: Path) -> None:
    """Keep one old log beside the current one."""
    if log.exists() and log.stat().st_size > _LARGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
