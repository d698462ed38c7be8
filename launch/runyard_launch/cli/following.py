"""Following a run on the command line: its life as it happens, how it ended, and what holds when the line is cut."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from runyard_common.runs.rules.lifecycle import Status
from runyard_launch.cli.remote import outcome, show
from runyard_launch.problems import CommandFailed, Outcome

if TYPE_CHECKING:
    from runyard import Client
    from runyard.client_results import Event, Run

_STATUSES = frozenset(Status)
_ENDED = ("completed", "failed", "stopped")
_WAITING = ("waiting_for_input", "awaiting_review")


def again(context: typer.Context, task: str, url: str, key_file: Path | None) -> str:
    """The command that follows a task once more, on the server that this command was for."""
    profile = context.find_root().params.get("profile")
    words = ["runyard", *(["--profile", profile] if profile else []), "tasks", "follow", task]
    words += ["--url", url] if url else []
    words += ["--key-file", str(key_file)] if key_file else []
    return shlex.join(words)


def follow_run(client: Client, run: Run, as_json: bool, again: str = "") -> int:
    """Show a run until it has ended or waits for a person; the exit code. For programs, an event a line.

    `again` is the command that follows it once more, for when the server goes away or the person does; by default
    that for the server of this machine's settings.
    """
    from runyard.client_results import Refused, Unreachable

    again = again or f"runyard tasks follow {run.id}"
    seen = _Seen(run.status)
    try:
        return _follow(client, run, as_json, seen)
    except (Unreachable, Refused) as error:
        if isinstance(error, Refused) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        why = "The server has stopped answering."
        raise _left(run.id, seen.status, again, why, "follow_interrupted", Outcome.UNREACHABLE) from None
    except KeyboardInterrupt:
        raise _left(run.id, seen.status, again, "Interrupted.", "interrupted", Outcome.INTERRUPTED) from None


@dataclass
class _Seen:
    """The last status of a run that its follower has heard of."""

    status: str


def _left(task: str, status: str, again: str, why: str, code: str, exit_code: Outcome) -> CommandFailed:
    """The failure of following a run that is not over for that: what becomes of it, and how to follow it again."""
    if status in _ENDED:
        fate = f"The run is {status}."
    elif status in _WAITING:
        fate = f"The run is not lost: it waits for a person ({status})."
    else:
        fate = f"The run is not lost: it was {status}; workers go on with it, or take it up again when they are back."
    when = " once the server is back" if exit_code == Outcome.UNREACHABLE else ""
    return CommandFailed(
        f"{why} {fate} Follow it again{when}: {again}",
        code,
        exit_code,
        task_id=task,
        status=status,
        follow=again,
    )


def _follow(client: Client, run: Run, as_json: bool, seen: _Seen) -> int:
    from rich.console import Console

    from runyard_launch.run_printer import RunPrinter

    printer = RunPrinter(Console(stderr=True, emoji=False))
    if not as_json:
        printer.line(f"task {run.id}")
        queue = client.get(run.id).raw.get("queue") or {}
        if queue.get("limit") == "worker":  # no event comes until there is one
            printer.line(f"it waits: {queue.get('basis')}")
    try:
        for event in client.events(run.id):
            if as_json:
                if event.seq:
                    fields = ("seq", "type", "attempt", "at", "data")
                    show({"task_id": event.run_id} | {name: getattr(event, name) for name in fields}, as_json)
            else:
                printer.event(event)
            if (status := event.data.get("status")) in _STATUSES:
                seen.status = str(status)
            # What is shown of the past may have been answered since, and the run may wait for something else by now.
            asked = event.data.get("status") in _WAITING
            if asked and client.get(run.id).waits_for_people and not _went_on(client, event):
                break
    finally:
        printer.end_line()
    ended = client.get(run.id)
    _print_end(ended, as_json)
    return outcome(ended)


def _went_on(client: Client, waiting: Event) -> bool:
    """Whether the run's status has changed since this event, by what its log has behind it."""
    from runyard import client_calls as calls

    page_of = calls.get(f"/tasks/{waiting.run_id}/events", after=waiting.seq, limit=1000)
    page = client.send(replace(page_of, headers={"Accept": "application/json"}))
    return any(later["data"].get("status") in _STATUSES for later in page["data"])


def _print_end(run: Run, as_json: bool) -> None:
    if as_json:
        show(dict(run.raw), as_json)
        return
    from rich.console import Console
    from rich.json import JSON

    if run.status == "completed":
        Console().print(JSON.from_data(run.output), soft_wrap=True)
        return
    errors = Console(stderr=True, emoji=False)
    for question in run.questions:
        verb = "answer" if question.kind == "question" else "review"
        errors.print(f"  {question.text or question.kind}", markup=False, soft_wrap=True)
        errors.print(f"  runyard tasks {verb} {run.id} …", style="dim", markup=False, soft_wrap=True)
    if run.error:
        errors.print(
            f"  {run.error.get('code')}: {run.error.get('message')}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        for line in str((run.error.get("details") or {}).get("traceback") or "").splitlines():
            errors.print(f"  {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
