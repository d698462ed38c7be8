"""`python -m launch.sample URL KEY_FILE`: submit one sample run through the public API and show its life."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.json import JSON

from common.domain.lifecycle import Event, Status

AGENT = "@demo/support_triage"
BODY = {
    "query": "I was charged twice for my March invoice and need the second payment back before Friday.",
    "args": {"ticketId": "T-1042", "priority": "high", "language": "en"},
    "streaming_tokens": True,
}
TERMINAL = {"completed", "failed", "stopped"}
WAITING = {"waiting_for_input", "awaiting_review"}
_STATUSES = frozenset(Status)
_CHANGES = frozenset(Event)  # told by the status they lead to
_TOLD_OTHERWISE = {"message", "thinking", "end"}
_INDENT = " " * 12
_PUBLISHING_TAKES_AT_MOST = 60.0
_RUN_TAKES_AT_MOST = 600.0


class SampleFailed(Exception):
    """The sample run did not complete; the message says why."""


@dataclass
class Follower:
    """Shows one task on the console as its events come."""

    client: httpx2.Client
    console: Console
    started: float = field(default_factory=time.monotonic)
    status: str = ""
    _mid_line: bool = False
    _last_id: str = ""

    def submit(self) -> str:
        """Start the run; its task id. A server that has not published the agent yet is asked again."""
        while True:
            answer = self.client.post(f"/api/v1/agents/{AGENT}/run", json=BODY)
            if answer.status_code != 404 or time.monotonic() - self.started > _PUBLISHING_TAKES_AT_MOST:
                break
            time.sleep(0.3)
        if answer.is_error:
            raise SampleFailed(f"The run was refused ({answer.status_code}): {answer.text[:500]}")
        task = answer.json()
        self._line(f"POST /api/v1/agents/{AGENT}/run → {answer.status_code}, task {task['task_id']}")
        self._show_status(task.get("status", "pending"))
        return str(task["task_id"])

    def follow(self, task_id: str) -> dict[str, Any]:
        """Show the task until it ends; the task. A stream that breaks is taken up where it broke."""
        while self.status not in TERMINAL | WAITING:
            if time.monotonic() - self.started > _RUN_TAKES_AT_MOST:
                raise SampleFailed(f"The run did not end within {_RUN_TAKES_AT_MOST:.0f} s")
            try:
                for event, data in self._events(task_id):
                    self._show(event, data)
            except httpx2.TransportError:
                time.sleep(0.5)  # the server may be starting again
            self._show_status(self.client.get(f"/api/v1/tasks/{task_id}").json().get("status", self.status))
        self._end_line()
        return dict(self.client.get(f"/api/v1/tasks/{task_id}").json())

    def _events(self, task_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        with self.client.sse(f"/api/v1/tasks/{task_id}/events", headers=headers) as source:
            for event in source:
                self._last_id = event.id or self._last_id
                data = event.json() if event.data else {}
                yield event.event, data if isinstance(data, dict) else {}
                if self.status in TERMINAL | WAITING:
                    return

    def _show(self, event: str, data: dict[str, Any]) -> None:
        detail = data.get("data")
        detail = detail if isinstance(detail, dict) else {}
        kind = data.get("type", event)
        if kind == "token":
            self._token(str(detail.get("text", "")))
        elif kind not in _CHANGES | _TOLD_OTHERWISE:
            named = (detail.get(name) for name in ("name", "tool", "step", "file", "server", "model"))
            self._line(f"{kind} {next(filter(None, named), '')} {_usage(detail.get('usage'))}")
        if (status := detail.get("status")) in _STATUSES:
            self._show_status(str(status))

    def _show_status(self, status: str) -> None:
        if status != self.status:
            self.status = status
            colour = {"completed": "green", "failed": "red", "stopped": "red"}.get(status, "cyan")
            self._line(f"[{colour}]{status}[/]")

    def _token(self, text: str) -> None:
        if not self._mid_line:
            self.console.print(_INDENT, end="")
        self._mid_line = True
        text = text.replace("\n", f"\n{_INDENT}")
        self.console.print(text, end="", style="dim", markup=False, highlight=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        self._end_line()
        self.console.print(
            f"  {time.monotonic() - self.started:6.2f} s  {text}", highlight=False, soft_wrap=True
        )

    def _end_line(self) -> None:
        if self._mid_line:
            self.console.print()
            self._mid_line = False


def run(url: str, key: str, console: Console) -> int:
    """Submit and follow; 0 if the run completed, else 1."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=httpx2.Timeout(30, read=60)) as client:
        follower = Follower(client, console)
        try:
            task = follower.follow(follower.submit())
        except (SampleFailed, httpx2.HTTPError) as problem:
            console.print(f"Sample run: {problem!s} ({type(problem).__name__})", style="red", markup=False)
            return 1
    if task["status"] != "completed":
        error = task.get("error") or {}
        console.print(f"The sample run ended {task['status']}: {error}", style="red", markup=False)
        return 1
    console.print("\n  Its output, checked against the agent's schema:", style="dim")
    console.print(JSON.from_data(task.get("output")), soft_wrap=True)
    return 0


def _usage(usage: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in usage.items()) if isinstance(usage, dict) else ""


def main() -> None:
    """Entry point of the child process."""
    url, key_file = sys.argv[1], Path(sys.argv[2])
    console = Console()
    console.print("\nOne sample run, as any client would make it:", style="bold")
    if not key_file.exists():
        sys.exit(f"Sample run: there is no admin key in {key_file}.")
    sys.exit(run(url, key_file.read_text().strip(), console))


if __name__ == "__main__":
    main()
