"""A run told on a terminal: its changes of state, its steps, and what the model says as it says it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from runyard.client_results import Event
from runyard_common.domain.lifecycle import Event as Change
from runyard_common.domain.lifecycle import Status

_STATUSES = frozenset(Status)
_CHANGES = frozenset(Change)  # told by the status they lead to
_TOLD_OTHERWISE = {"message", "thinking", "end"}
_COLOURS = {"completed": "green", "failed": "red", "stopped": "red"}
_INDENT = " " * 12


@dataclass
class Teller:
    """Tells one run, with the seconds since it began to."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    status: str = ""
    _mid_line: bool = False

    def event(self, event: Event) -> None:
        """Tell an event, or a token delta."""
        if event.type == "token":
            self._token(event.text)
        elif event.type not in _CHANGES | _TOLD_OTHERWISE:
            named = (event.data.get(name) for name in ("name", "tool", "step", "file", "server", "model"))
            self.line(f"{event.type} {next(filter(None, named), '')} {_usage(event.data.get('usage'))}")
        if (status := event.data.get("status")) in _STATUSES:
            self.reached(str(status))

    def reached(self, status: str) -> None:
        """Tell a status, once."""
        if status != self.status:
            self.status = status
            self.line(f"[{_COLOURS.get(status, 'cyan')}]{status}[/]")

    def line(self, text: str) -> None:
        """Tell a line of its own."""
        self.end_line()
        self.console.print(
            f"  {time.monotonic() - self.started:6.2f} s  {text}", highlight=False, soft_wrap=True
        )

    def end_line(self) -> None:
        """Finish a line of tokens, if one is begun."""
        if self._mid_line:
            self.console.print()
            self._mid_line = False

    def _token(self, text: str) -> None:
        if not self._mid_line:
            self.console.print(_INDENT, end="")
        self._mid_line = True
        text = text.replace("\n", f"\n{_INDENT}")
        self.console.print(text, end="", style="dim", markup=False, highlight=False, soft_wrap=True)


def _usage(usage: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in usage.items()) if isinstance(usage, dict) else ""
