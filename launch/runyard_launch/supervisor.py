"""The supervisor: starts children stage by stage, keeps them running, and stops them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from rich.console import Console

from runyard_launch.children import Child, Spec
from runyard_launch.problems import StartProblem
from runyard_launch.restarts import CANNOT_WORK
from runyard_launch.signals import STOP, Signals, caught

_LOOK_EVERY = 0.1  # seconds between readiness checks while a stage starts
_PATIENCE = 10.0  # seconds until a stage that is not ready yet is mentioned, and again
_LINES_SHOWN = 8  # of the log of a child that ends again and again
_IDLE = 2.0  # seconds between looks when everything runs; a child's end wakes us at once

KILLED = 130  # exit code after a second Ctrl-C, as shells have it


class Stopped(Exception):
    """The user or the system asked us to stop."""


class GivenUp(StartProblem):
    """A child cannot be kept running; `lines` is the end of its log."""

    def __init__(self, message: str, lines: list[str], exit_code: int) -> None:
        super().__init__(message)
        self.lines = lines
        self.exit_code = exit_code


class Supervisor:
    """Runs child processes from the main thread, on which their lives hang (see `runyard_launch.process`)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._children: list[Child] = []
        self._signals: Signals

    def run(
        self,
        stages: Iterable[Sequence[Spec]],
        last: Spec | None = None,
        *,
        until_done: bool = False,
        up: Callable[[], None] = lambda: None,
    ) -> int:
        """Start every stage once the one before is ready, then stay up; the exit code.

        `last` is started when all stages are ready, and `up` called when its work is done. 0 after SIGINT,
        SIGTERM or SIGHUP, 130 after a second one; with `until_done` the exit code of `last`, whose end stops
        everything. `StartProblem` if a child cannot be kept running.
        """
        with caught() as self._signals:
            try:
                code = self._run(stages, last, until_done, up)
            except Stopped:
                self._console.print("Stopping … (Ctrl-C again kills)", style="dim")
                code = 0
            except BaseException:
                self._stop()
                raise
            if self._stop():
                return code
            self._console.print("Killed what had not stopped yet.", style="yellow")
            return KILLED

    def _run(
        self, stages: Iterable[Sequence[Spec]], last: Spec | None, until_done: bool, up: Callable[[], None]
    ) -> int:
        for stage in stages:
            self._start(stage)
        if last is not None:
            code = self._finish(last)
            if until_done:
                return code
        up()
        while True:
            self._look(_IDLE)

    def _start(self, stage: Sequence[Spec]) -> None:
        """Start the children of one stage and wait until all are ready."""
        children = [Child(spec) for spec in stage]
        self._children += children
        for child in children:
            _start(child)
        mention = time.monotonic() + _PATIENCE
        while waiting := [child for child in children if not child.is_ready]:
            if time.monotonic() > mention:
                mention += _PATIENCE
                names = ", ".join(f"{child.name} ({child.spec.log})" for child in waiting)
                self._console.print(f"  still waiting for {names}", style="dim", soft_wrap=True)
            self._look(_LOOK_EVERY)

    def _finish(self, spec: Spec) -> int:
        """Run a child to its end; its exit code."""
        child = Child(spec)
        _start(child)
        self._children.append(child)
        while child.running:
            self._look(_IDLE, leave=child)
        self._children.remove(child)
        return child.exit_code or 0

    def _look(self, seconds: float, leave: Child | None = None) -> None:
        """Wait for something to happen, at most `seconds`, and do what it needs. `leave` may end in peace."""
        soon = [child.due - time.monotonic() for child in self._children if child.due is not None]
        if STOP.intersection(self._signals.wait(max(0.0, min([seconds, *soon])))):
            raise Stopped
        for child in self._children:
            if (code := child.ended()) is not None and child is not leave:
                self._handle_end(child, code)
            if child.due is not None and child.due <= time.monotonic():
                _start(child)
            if child.check_ready():
                self._tell_ready(child)

    def _handle_end(self, child: Child, code: int) -> None:
        if child.spec.once:
            if code == 0:
                self._tell_ready(child)
                return
            raise GivenUp(f"{child.name} failed: {_reason(child, code)}", child.last_lines(), code_for(code))
        if code == CANNOT_WORK and child.spec.runs_agents and not _explained(child):
            code = 1  # an agent that ended its worker with this very code says nothing about the settings
        child.restarts = child.restarts.after(child.lived, code, own_code=not child.spec.runs_agents)
        if child.restarts.deaths == 2 and child.spec.mend and (mended := child.spec.mend()):
            self._console.print(f"  {child.name}: {mended}", style="yellow")
        if child.restarts.given_up:
            times = "" if code == CANNOT_WORK else f" again and again, {child.restarts.deaths} times now"
            raise GivenUp(
                f"{child.name} ended{times}: {_reason(child, code)}", child.last_lines(), code_for(code)
            )
        child.due = time.monotonic() + child.restarts.delay
        self._report_end(child, code)

    def _report_end(self, child: Child, code: int) -> None:
        """Say that a child is started again, and when it ends repeatedly also what it wrote last."""
        if child.restarts.repeated:
            for line in child.last_lines(_LINES_SHOWN):
                self._console.print(f"  | {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
        self._console.print(
            f"  {child.name} ended ({_how(code)}); starting it again in {child.restarts.delay:g} s "
            f"· {child.spec.log}",
            style="yellow",
            soft_wrap=True,
        )

    def _tell_ready(self, child: Child) -> None:
        verb = "done" if child.spec.once else "ready"
        self._console.print(f"  [green]✓[/] {child.name:<10} {verb} after {child.lived:.1f} s")

    def _stop(self) -> bool:
        """Stop all children in order; False if a second signal cut it short."""
        by_order = sorted(self._children, key=lambda child: child.spec.stop_order)
        for _, group in groupby(by_order, key=lambda child: child.spec.stop_order):
            if not self._stop_group([child for child in group if child.running]):
                for child in self._children:
                    _kill(child)
                return False
        return True

    def _stop_group(self, children: list[Child]) -> bool:
        for child in children:
            if child.process:
                child.process.terminate()
        end = time.monotonic() + max((child.spec.grace for child in children), default=0)
        while running := [child for child in children if child.ended() is None and child.running]:
            if time.monotonic() > end:
                for child in running:
                    self._console.print(f"  {child.name} did not stop in time and was killed", style="yellow")
                    _kill(child)
                return True
            if STOP.intersection(self._signals.wait(0.5)):
                return False
        return True


def code_for(exit_code: int) -> int:
    """Our exit code after a child's: 2 if its settings cannot work, else 1."""
    return CANNOT_WORK if exit_code == CANNOT_WORK else 1


def _start(child: Child) -> None:
    try:
        child.start()
    except OSError as error:
        raise StartProblem(f"{child.name} cannot be started: {error}") from None


def _kill(child: Child) -> None:
    if child.process and child.running:
        child.process.kill()
        child.process.wait()


def _explained(child: Child) -> bool:
    """Whether a worker that ended with `CANNOT_WORK` has said so: its last line names the program."""
    return child.spec.log is None or any(line.startswith("runyard ") for line in child.last_lines(1))


def _reason(child: Child, code: int) -> str:
    """The child's last words, which for a problem it knows are one sentence."""
    lines = child.last_lines(1)
    return lines[0] if code == CANNOT_WORK and lines else _how(code)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
