"""What `runyard dev` writes: reloads, what cannot be imported, and runs with their ids, output and failures."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from runyard_common.development import Message
from runyard_launch.run_printer import asked, described, reason

_MOST_AGENTS: Final = 6  # that are named
_MOST_RUNS: Final = 5  # that are named at once
_STYLES: Final = {"error": "red", "warn": "yellow", "warning": "yellow", "debug": "dim"}


class Terminal:
    """Prints lines with their time. Runs are named by their id, which `runyard tasks` takes."""

    def __init__(self, console: Console, folder: Path) -> None:
        """`folder` is the author's project: its frames of a traceback come out."""
        self._console = console
        self._folder = f"{folder}{os.sep}"
        self._began: dict[str, float] = {}  # runs under way, by task
        self._lock = threading.Lock()

    # -- workers ---------------------------------------------------------------------------------------------

    def reloading(self, changed: list[Path]) -> None:
        """See `Shown`."""
        names = ", ".join(self._relative(path) for path in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        self._line(f"[cyan]↻[/] {escape(names)}{more} changed")

    def broken(self, problems: list[Message], serves: bool) -> None:
        """See `Shown`."""
        for problem in problems:
            self._line(f"[red]✗ {escape(str(problem['problem']))}[/]")
            self._traceback(str(problem["traceback"]))
        self._without("Correct it and save", serves)

    def empty(self, sources: list[str], serves: bool) -> None:
        """See `Shown`."""
        for source in sources:
            self._line(f"[yellow]✗ {escape(source)}[/]")
        self._without("Save one that does", serves)

    def _without(self, remedy: str, serves: bool) -> None:
        meanwhile = "the code from before goes on" if serves else "no worker serves until then"
        self._line(f"[yellow]  {remedy}; {meanwhile}.[/]")

    def serving(self, agents: list[list[str]], seconds: float | None) -> None:
        """See `Shown`."""
        names = ", ".join(f"{name} {version}" for name, version in agents[:_MOST_AGENTS])
        more = f" and {len(agents) - _MOST_AGENTS} more" if len(agents) > _MOST_AGENTS else ""
        after = f" [dim]({seconds:.1f} s after the change)[/]" if seconds is not None else ""
        self._line(
            f"[green]✓[/] {'reloaded' if seconds is not None else 'ready'}: {escape(names)}{more}{after}"
        )

    def leaving(self, runs: int) -> None:
        """See `Shown`."""
        them = "1 run goes on" if runs == 1 else f"{runs} runs go on"
        self._line(f"[dim]  {them} with the code that {'it' if runs == 1 else 'they'} began with[/]")

    def ended_at_import(self, files: list[Path], why: str, serves: bool) -> None:
        """See `Shown`."""
        names = ", ".join(self._relative(path) for path in files[:3]) or "A module of the agents"
        self._line(f"[red]✗ {escape(names)} ended the process at import ({why})[/]")
        self._without("Correct it and save", serves)

    def ended(self, why: str, lines: list[str], again_in: float | None, serves: bool) -> None:
        """See `Shown`."""
        for line in lines:
            self._line(f"[dim]  | {escape(line)}[/]")
        then = "the next save starts another" if again_in is None else f"another starts in {again_in:g} s"
        which = "A worker that did not serve" if serves else "The worker"
        self._line(f"[yellow]✗ {which} has ended ({why}); {then}.[/]")

    def without_code(self, runs: list[Message]) -> None:
        """See `Shown`."""
        for run in runs[:_MOST_RUNS]:
            name, version, others = run["agent"], run["version"], ", ".join(run["others"])
            why = f"which does not fit the code here ({others})" if others else "which no code here declares"
            self._line(
                f"[yellow]✗ {escape(str(run['task']))} waits for {escape(f'{name} {version}')}, {escape(why)}[/]"
            )
        if len(runs) > _MOST_RUNS:
            self._line(f"[yellow]  and {len(runs) - _MOST_RUNS} more runs[/]")
        remedy = "Undo the change, declare resumes=… for that version, or `runyard tasks cancel` the run."
        self._line(f"[yellow]  {remedy}[/]")

    def note(self, text: str) -> None:
        """See `Shown`."""
        self._line(f"[yellow]{escape(text)}[/]")

    def output(self, message: Message) -> None:
        """See `Shown`."""
        self._text("[dim]import │[/]", message)

    # -- runs ------------------------------------------------------------------------------------------------

    def event(self, message: Message) -> None:
        """See `Shown`."""
        task, data, type_ = message["task"], message["data"] or {}, message["type"]
        run = f"[dim]{task}[/]"
        if type_ == "log":
            self._text(f"{run} [dim]│[/]", data)
            return
        name = f"{run} {escape(str(message['agent']))}"
        if type_ == "claim":
            self._began[task] = message["at"]
            attempt = f", attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""
            self._line(f"{name} [cyan]running[/] [dim]{escape(str(data.get('version')))}{attempt}[/]")
        elif type_ in ("progress", "custom"):
            self._line(f"{run} [dim]│ {escape(described(type_, data))}[/]")
        else:
            self._attempt_ended(name, task, type_, data, message["at"])

    def _attempt_ended(self, name: str, task: str, type_: str, data: dict[str, Any], at: float) -> None:
        took = f" [dim]after {at - self._began.pop(task, at):.1f} s[/]"
        status = str(data.get("status") or type_)
        colour = {"completed": "green", "failed": "red", "stopped": "red"}.get(status, "cyan")
        error = data.get("error") or {}
        why = reason(type_, data) if type_ != "fail" else f"{error.get('code')}: {error.get('message')}"
        self._line(f"{name} [{colour}]{status}[/]{took}{escape(f': {why}') if why else ''}")
        for text in asked(data):
            self._line(f"  {escape(text)}")
            verb = "review" if type_ == "review" else "answer"
            self._line(f"  [dim]runyard tasks {verb} {task} …[/]")
        self._traceback(str((error.get("details") or {}).get("traceback") or ""))

    # -- lines -----------------------------------------------------------------------------------------------

    def _text(self, before: str, data: Message) -> None:
        """A line, or several, that an author's code has written."""
        style = _STYLES.get(str(data.get("level")))
        named = f"{data['logger']}: " if data.get("logger") else ""
        for line in f"{named}{data.get('text', data.get('message', ''))}".splitlines():
            self._line(f"{before} {f'[{style}]{escape(line)}[/]' if style else escape(line)}")

    def _traceback(self, text: str) -> None:
        """The author's own frames stand out from those of libraries."""
        for line, is_own in frames(text, self._folder):
            self._line(f"    {escape(line)}" if is_own else f"    [dim]{escape(line)}[/]")

    def _line(self, markup: str) -> None:
        with self._lock:
            now = datetime.fromtimestamp(time.time()).astimezone()
            self._console.print(f"[dim]{now:%H:%M:%S}[/] {markup}", highlight=False, soft_wrap=True)

    def _relative(self, path: Path) -> str:
        return str(path).removeprefix(self._folder)


def frames(text: str, folder: str) -> Iterable[tuple[str, bool]]:
    """The lines of a traceback, each with whether it is of the code in `folder`, or names what was raised."""
    is_own = True
    for line in text.splitlines():
        if line.startswith('  File "'):
            is_own = line.startswith(f'  File "{folder}') and "site-packages" not in line
        elif not line.startswith("  "):
            is_own = True
        yield line, is_own
