"""A run on a terminal: its changes of state, what it reports, and the model's words as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from runyard.client_results import Event
from runyard_common.runs.rules.lifecycle import Event as Change
from runyard_common.runs.rules.lifecycle import Status

_STATUSES = frozenset(Status)
_CHANGES = frozenset(Change)  # shown by the status they lead to, and why
_COLOURS = {"completed": "green", "failed": "red", "stopped": "red"}
_INDENT = " " * 12
_LONGEST: Final = 2_000  # characters of what one event shows
_MOST_VIOLATIONS: Final = 10
Data = Mapping[str, Any]


@dataclass
class RunPrinter:
    """Prints one run. Times are of the events, in seconds since the first: of a run of yesterday they are the same."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    status: str = ""
    _first: float | None = None
    _now: float = 0.0
    _mid_line: bool = False
    _streamed: bool = False  # whether the model's words were shown as they came

    def event(self, event: Event) -> None:
        """Print an event, or a token delta."""
        self._clock(event.at)
        if event.type == "token":
            self._token(event.text)
        elif event.type == "message":
            self._message(event.text)
        elif event.type not in _CHANGES and event.type not in ("thinking", "end"):
            self.line(escape(described(event.type, event.data)))
        if (status := event.data.get("status")) in _STATUSES:
            self.reached(str(status), reason(event.type, event.data))
            for text in asked(event.data):
                self.line(escape(text))

    def reached(self, status: str, why: str = "") -> None:
        """Print a status, once, or why it is so again."""
        if status != self.status or why:
            self.status = status
            self.line(f"[{_COLOURS.get(status, 'cyan')}]{status}[/]{escape(f': {why}') if why else ''}")

    def line(self, text: str) -> None:
        """Print a line of its own, at the time of the last event."""
        self.end_line()
        text = text.replace("\n", f"\n{_INDENT}  ")
        self.console.print(f"  {self._now:6.2f} s  {text}", highlight=False, soft_wrap=True)

    def end_line(self) -> None:
        """Finish a line of tokens, if one is begun."""
        if self._mid_line:
            self.console.print()
            self._mid_line = False

    def _clock(self, at: str | None) -> None:
        if at is None:
            return
        try:
            seconds = datetime.fromisoformat(at).timestamp()
        except ValueError:
            return
        self._first = seconds if self._first is None else self._first
        self._now = max(0.0, seconds - self._first)

    def _message(self, text: str) -> None:
        """The words of a turn, which were not shown as they came: the run was followed later."""
        if text and not self._streamed:
            self.line(escape(_cut(text)))
        self._streamed = False

    def _token(self, text: str) -> None:
        self._streamed = True
        if not self._mid_line:
            self.console.print(_INDENT, end="")
        self._mid_line = True
        text = text.replace("\n", f"\n{_INDENT}")
        self.console.print(text, end="", style="dim", markup=False, highlight=False, soft_wrap=True)


def described(type_: str, data: Data) -> str:
    """An event of the log, in a line or a few."""
    made = _DESCRIPTIONS.get(type_)
    if made is not None:
        return _cut(made(data))
    named = (data.get(name) for name in ("name", "tool", "step", "file", "server", "model"))
    return f"{type_} {next(filter(None, named), '')} {_usage(data.get('usage'))}".rstrip()


def reason(type_: str, data: Data) -> str:
    """Why a change of state came about, where its status alone does not show it."""
    made = _REASONS.get(type_)
    return _cut(made(data)) if made is not None else ""


def asked(data: Data) -> Iterator[str]:
    """The questions and reviews that a run waits for, each with what may be answered."""
    for one in data.get("asked") or ():
        text = str(one.get("text") or one.get("action") or one.get("kind") or "question")
        options = one.get("options")
        arguments = one.get("arguments")
        if options:
            text += f" ({' | '.join(str(option) for option in options)})"
        if arguments is not None:
            text += f" {_json(arguments)}"
        yield _cut(f"? {text}")


def _progress(data: Data) -> str:
    fraction = data.get("fraction")
    share = f"{100 * fraction:.0f} %" if isinstance(fraction, int | float) else ""
    return " ".join(filter(None, ("progress", share, str(data.get("message") or ""))))


def _log(data: Data) -> str:
    source = data.get("logger") or data.get("source")
    return f"{data.get('level', 'info')}{f' {source}' if source else ''}: {data.get('message', '')}"


def _violations(data: Data) -> str:
    found = list(data.get("violations") or ())
    lines = [": ".join(str(value) for value in one.values()) for one in found[:_MOST_VIOLATIONS]]
    more = [f"and {len(found) - len(lines)} more"] if len(found) > len(lines) else []
    return "\n".join([f"output_invalid, repair {data.get('repair')}", *lines, *more])


def _retry(data: Data) -> str:
    error = data.get("error") or {}
    wait = f"tried again in {data.get('delay_s', 0):.1f} s"
    return f"{wait}, after {error.get('code')}: {error.get('message')}"


_DESCRIPTIONS: Final[dict[str, Callable[[Data], str]]] = {
    "progress": _progress,
    "log": _log,
    "custom": lambda data: f"{data.get('name')} {_json(data.get('data'))}",
    "output_invalid": _violations,
    "tool_call": lambda data: f"tool_call {data.get('tool')} {_json(data.get('arguments'))}",
    "tool_result": lambda data: f"tool_result {data.get('tool')}: {data.get('outcome')}",
    "event_received": lambda data: f"event {data.get('name')}",
    "handoff": lambda data: f"handoff {data.get('from')} → {data.get('to')}",
}


def _wait(data: Data) -> str:
    if data.get("child"):
        return f"until its run {data['child']} has ended"
    if data.get("for") == "sleep" and isinstance(data.get("until"), int | float):
        return f"until {datetime.fromtimestamp(data['until'], UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"for {data.get('for')}"


_REASONS: Final[dict[str, Callable[[Data], str]]] = {
    "submit": lambda data: f"held by {data['held_by']}" if data.get("held_by") else "",
    "hold": lambda data: f"held by {data['held_by']}" if data.get("held_by") else "",
    "retry": _retry,
    "wait": _wait,
    "release": lambda data: f"handed back by its worker ({data.get('reason')})",
    "compensate": lambda data: "what it did is undone",
    "compensated": lambda data: f"{data.get('name')}: {data.get('outcome')}",
    "rescue": lambda data: f"its worker was lost ({data.get('loss')})",
    "stop": lambda data: str(data.get("reason") or ""),
    "fail": lambda data: str((data.get("error") or {}).get("code") or ""),
}


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _usage(usage: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in usage.items()) if isinstance(usage, dict) else ""
