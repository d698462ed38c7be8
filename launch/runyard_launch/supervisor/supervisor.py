"""The supervisor: starts children stage by stage, keeps them running, and stops them in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, takewhile

from rich.console import Console

from runyard_launch.problems import StartFailed, StartProblem
from runyard_launch.supervisor.children import CANNOT_WORK, Child, Spec
from runyard_launch.supervisor.signals import STOP, Signals, caught

_LOOK_EVERY = 0.1  # seconds between readiness checks while a stage starts
_PATIENCE = 10.0  # seconds until a stage that is not ready yet is mentioned, and again
_LINES_SHOWN = 8  # of the log of a child that ends again and again
_BLOCK_LINES = 60  # the longest block on broken agents
_IDLE = 2.0  # seconds between looks when everything runs; a child's end wakes us at once

#: Seconds that children have together after Ctrl-C where `quick` is asked for: people wait two. On a machine that is
#: busy with other work they need longer: one that uses the processor then, or waits for it, has so many seconds more.
QUICK_STOP, BUSY_STOP = 1.2, 3.0
_WORK_WITHIN = 0.25  # seconds in which such a child must have used the processor

KILLED = 130  # exit code after a second Ctrl-C, as shells have it


#: How a worker's report on agents begins: none can be loaded, and it ends; some cannot; a source gave none.
NO_AGENTS = "runyard worker: RUNYARD_AGENTS: no agent can be loaded"
SOME_AGENTS = "runyard worker: RUNYARD_AGENTS: some agents cannot be loaded"
EMPTY_SOURCE = "runyard worker: RUNYARD_AGENTS: a source holds no agent"
_LOADS_WITHIN = 120.0  # seconds a worker may take to load its agents


class Stopped(Exception):
    """The user or the system asked us to stop. `at_terminal`: by Ctrl-C, so that a person waits."""

    def __init__(self, at_terminal: bool) -> None:
        super().__init__()
        self.at_terminal = at_terminal


class GivenUp(StartProblem):
    """A child cannot be kept running; `lines` is the end of its log."""

    def __init__(self, message: str, lines: list[str], exit_code: int) -> None:
        super().__init__(message)
        self.lines = lines
        self.exit_code = exit_code


class Supervisor:
    """Runs child processes from the main thread, on which their lives hang (see `spawn`)."""

    def __init__(self, console: Console, *, quick: bool = False) -> None:
        """`quick`: Ctrl-C gives all children together `QUICK_STOP` seconds, not their own grace."""
        self._console = console
        self._quick = quick
        self._code = 0
        self._children: list[Child] = []
        self._signals: Signals
        #: Called in the main thread each time that something may have happened, and after `wake`.
        self.on_look: Callable[[], None] = lambda: None

    def run(
        self,
        stages: Iterable[Sequence[Spec]],
        last: Spec | None = None,
        *,
        until_done: bool = False,
        up: Callable[[], None] = lambda: None,
        until: Callable[[], bool] = lambda: True,
    ) -> int:
        """Start every stage once none of the one before holds it up, then stay up; the exit code.

        `up` is called when all stages are ready and `until` is so, and `last` is started then. 0 after SIGINT, SIGTERM
        or SIGHUP (2 when a worker could not load its agents), 130 after a second one; with `until_done` the exit code
        of `last`, whose end stops everything. `StartProblem` if a child cannot be kept running.
        """
        within: float | None = None
        with caught() as self._signals:
            try:
                code = self._run(stages, last, until_done, up, until)
            except Stopped as stopped:
                within = QUICK_STOP if self._quick and stopped.at_terminal else None
                self._report_stop(within)
                code = self._code
            except BaseException:
                self._stop()
                raise
            if self._stop(within):
                return code
            self._console.print("Killed what had not stopped yet.", style="yellow")
            return KILLED

    def adopt(self, spec: Spec) -> Child:
        """Start one more child. Call it in the main thread, once `run` has begun."""
        child = Child(spec)
        _start(child)
        self._children.append(child)
        return child

    def forget(self, child: Child) -> None:
        """Have no more to do with a child that has ended."""
        self._children.remove(child)

    def wake(self) -> None:
        """Let the main thread call `on_look` now. From any thread, once `run` has begun."""
        self._signals.wake()

    def _run(
        self,
        stages: Iterable[Sequence[Spec]],
        last: Spec | None,
        until_done: bool,
        up: Callable[[], None],
        until: Callable[[], bool],
    ) -> int:
        for stage in stages:
            self._start(stage)
        self._wait_for(lambda child: child.holds_up if child.spec.runs_agents else not child.is_ready)
        while not until():
            self._look(_LOOK_EVERY)
        up()
        if last is not None:
            code = self._finish(last)
            if until_done:
                return code
        while True:
            self._look(_IDLE)

    def _start(self, stage: Sequence[Spec]) -> None:
        """Start the children of one stage and wait until none holds up the next."""
        children = [Child(spec) for spec in stage]
        self._children += children
        for child in children:
            _start(child)
        self._wait_for(lambda child: child.holds_up)

    def _wait_for(self, unfinished: Callable[[Child], bool]) -> None:
        """Wait until no child is `unfinished`, and name those that are now and then."""
        mention = time.monotonic() + _PATIENCE
        while waiting := [child for child in self._children if unfinished(child)]:
            if time.monotonic() > mention:
                mention += _PATIENCE
                names = ", ".join(f"{child.name} ({child.spec.log})" for child in waiting)
                self._console.print(f"  still waiting for {names}", style="dim", soft_wrap=True, markup=False)
            self._look(_LOOK_EVERY)

    def _finish(self, spec: Spec) -> int:
        """Run a child to its end; its exit code."""
        child = self.adopt(spec)
        while child.running:
            self._look(_IDLE, leave=child)
        self._children.remove(child)
        return child.exit_code or 0

    def _look(self, seconds: float, leave: Child | None = None) -> None:
        """Wait for something to happen, at most `seconds`, and do what it needs. `leave` may end in peace."""
        soon = [child.due - time.monotonic() for child in self._children if child.due is not None]
        if came := STOP.intersection(self._signals.wait(max(0.0, min([seconds, *soon])))):
            raise Stopped(at_terminal=signal.SIGINT in came)
        for child in list(self._children):
            if (code := child.ended()) is not None and child is not leave:
                (child.spec.on_end or self._handle_end)(child, code)
            if child.due is not None and child.due <= time.monotonic():
                _start(child)
            if child.check_ready():
                self._report_ready(child)
            if _loads_agents(child):
                self._report_sources(child)
        self.on_look()

    def _handle_end(self, child: Child, code: int) -> None:
        if child.spec.once:
            if code == 0:
                self._report_ready(child)
                return
            raise GivenUp(f"{child.name} failed: {_reason(child, code)}", child.last_lines(), code_for(code))
        if code == CANNOT_WORK and child.spec.runs_agents and not _explained(child):
            code = 1  # an agent that ended its worker with this very code is no sign against the settings
        if code == CANNOT_WORK and (block := _broken_agents(child, NO_AGENTS)):
            self._leave(child, block)
            return
        child.restarts = child.restarts.after(child.lived, code, own_code=not child.spec.runs_agents)
        if child.restarts.deaths == 2 and child.spec.repair and (repaired := child.spec.repair()):
            self._console.print(f"  {child.name}: {repaired}", style="yellow", markup=False)
        if child.restarts.given_up:
            times = "" if code == CANNOT_WORK else f" again and again, {child.restarts.deaths} times now"
            raise GivenUp(
                f"{child.name} ended{times}: {_reason(child, code)}", child.last_lines(), code_for(code)
            )
        child.due = time.monotonic() + child.restarts.delay
        self._report_end(child, code)

    def _leave(self, child: Child, block: list[str]) -> None:
        """Agents that cannot be loaded are their author's to correct: show where, and keep the rest up meanwhile."""
        child.is_ready = True  # nothing waits for it
        self._report_agents(child, block)
        self._console.print(
            f"  {child.name} has ended; everything else stays up. Correct it, then start again (Ctrl-C stops).",
            style="yellow",
            soft_wrap=True,
        )

    def _report_sources(self, child: Child) -> None:
        """Show which sources of agents the worker runs without."""
        if block := _broken_agents(child, SOME_AGENTS):
            self._report_agents(child, block)
            self._console.print("  The other agents run.", style="yellow")
        elif block := _broken_agents(child, EMPTY_SOURCE):
            child.agents_reported = True
            self._show(block, "yellow")

    def _report_agents(self, child: Child, block: list[str]) -> None:
        """Show what an author has to correct."""
        self._code, child.agents_reported = CANNOT_WORK, True
        self._show(block, "red")

    def _show(self, block: list[str], style: str) -> None:
        self._console.print()
        for line in block:
            self._console.print(f"  {line}", style=style, markup=False, highlight=False, soft_wrap=True)

    def _report_stop(self, within: float | None) -> None:
        """Say what is waited for, and for how long."""
        running = [child for child in self._children if child.running]
        groups = groupby(sorted(running, key=_order), key=_order)
        seconds = f"{sum(max(child.spec.grace for child in group) for _, group in groups):g} s at most."
        if within:
            seconds = (
                f"{within:g} s, or {within + BUSY_STOP:g} s on a busy machine. Runs under way are handed back"
            )
            seconds += " and go on at the next start."
        names = ", ".join(child.name for child in sorted(running, key=_order)) or "nothing"
        self._console.print(
            f"Stopping: waiting for {names}, {seconds} (Ctrl-C again kills)",
            style="dim",
            soft_wrap=True,
        )

    def _report_end(self, child: Child, code: int) -> None:
        """Say that a child is started again, and when it ends repeatedly also what it wrote last."""
        if child.restarts.repeated:
            for line in child.last_lines(_LINES_SHOWN):
                self._console.print(f"  | {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
        self._console.print(
            f"  {child.name} ended ({_how(code)}); starting it again in {child.restarts.delay:g} s "
            f"· {child.spec.log}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )

    def _report_ready(self, child: Child) -> None:
        verb = "done" if child.spec.once else "ready"
        self._console.print(f"  [green]✓[/] {child.name:<10} {verb} after {child.lived:.1f} s")

    def _stop(self, within: float | None = None) -> bool:
        """Stop all children in order, `within` seconds if given; False if a second signal cut it short."""
        groups = [
            [child for child in group if child.running]
            for _, group in groupby(sorted(self._children, key=_order), key=_order)
        ]
        end = None if within is None else time.monotonic() + within
        for number, group in enumerate(groups):
            grace = max((child.spec.grace for child in group), default=0)
            if (
                end is not None
            ):  # most of it is the workers', who hand back their runs; what they leave is the others'
                share = 1.0 if number == len(groups) - 1 else 0.6
                grace = min(grace, max(0.0, end - time.monotonic()) * share)
            if not self._stop_group(group, grace, None if end is None else end + BUSY_STOP):
                for child in self._children:
                    _kill(child)
                return False
        return True

    def _stop_group(self, children: list[Child], grace: float, busy_until: float | None) -> bool:
        """Stop these within `grace` seconds, and while they are at work until then; False at a second signal."""
        for child in children:
            if child.process:
                child.process.terminate()
        end = time.monotonic() + grace
        while running := [child for child in children if child.ended() is None and child.running]:
            left = end - time.monotonic()
            if left <= 0 and busy_until is not None and time.monotonic() < busy_until:
                left = _WORK_WITHIN if any(child.at_work() for child in running) else 0.0
            if left <= 0:
                for child in running:
                    self._console.print(f"  {child.name} did not stop in time and was killed", style="yellow")
                    _kill(child)
                return True
            if STOP.intersection(self._signals.wait(min(0.5, left))):
                return False
        return True


def code_for(exit_code: int) -> int:
    """Our exit code after a child's: 2 if its settings cannot work, else 1."""
    return CANNOT_WORK if exit_code == CANNOT_WORK else 1


def _start(child: Child) -> None:
    try:
        child.start()
    except OSError as error:
        raise StartFailed(f"{child.name} cannot be started: {error}") from None


def _kill(child: Child) -> None:
    if child.process and child.running:
        child.process.kill()
        child.process.wait()


def _order(child: Child) -> int:
    return child.spec.stop_order


def _explained(child: Child) -> bool:
    """Whether a worker that ended with `CANNOT_WORK` gave the reason, in its last line or a block."""
    if child.spec.log is None or _broken_agents(child, NO_AGENTS):
        return True
    return any(line.startswith("runyard ") for line in child.last_lines(1))


def _loads_agents(child: Child) -> bool:
    return (
        child.spec.runs_agents and child.running and not child.agents_reported and child.lived < _LOADS_WITHIN
    )


def _broken_agents(child: Child, first: str) -> list[str]:
    """The lines of a worker's log on sources of agents: a sentence, and an indented line for each."""
    lines = child.last_lines(_BLOCK_LINES) if child.spec.runs_agents else []
    starts = [number for number, line in enumerate(lines) if line.startswith(first)]
    if not starts:
        return []
    return [lines[starts[-1]], *takewhile(lambda line: line.startswith("  "), lines[starts[-1] + 1 :])]


def _reason(child: Child, code: int) -> str:
    """The child's last words, which for a problem it knows are one sentence."""
    lines = child.last_lines(1)
    return lines[0] if code == CANNOT_WORK and lines else _how(code)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
