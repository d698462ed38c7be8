"""`python -m runyard_launch.supervisor.sample URL KEY_FILE`: submit one sample run as a client, and show its life."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.json import JSON

from runyard import Client
from runyard.client_results import ClientError, Refused, Run
from runyard_common.agents.service.model_choice import LOCAL
from runyard_launch.run_printer import RunPrinter
from runyard_launch.supervisor.home import Home

AGENT = "@demo/support_triage"
MESSAGE = "I was charged twice for my March invoice and need the second payment back before Friday."
ARGS = {"ticketId": "T-1042", "priority": "high", "language": "en"}
_WAITING = {"waiting_for_input", "awaiting_review"}
_LONGEST_PUBLISHING = 60.0
_LONGEST_RUN = 600.0


_SMALL_MODEL = (
    "\n  Its output, checked against the agent's schema. The small local model invents its answers; a real model "
    "answers better:"
)
_OUTPUT = "\n  Its output, checked against the agent's schema:"


class SampleFailed(Exception):
    """The sample run did not complete; the message has the reason."""


def submit(client: Client, printer: RunPrinter) -> Run:
    """Start the run. A server that has not published the agent yet is asked again."""
    while True:
        try:
            run = client.run(AGENT, ARGS, message=MESSAGE, wait=False, streaming_tokens=True)
        except Refused as refused:
            if refused.status != 404 or time.monotonic() - printer.started > _LONGEST_PUBLISHING:
                raise SampleFailed(f"The run was refused: {refused}") from None
            time.sleep(0.3)
            continue
        printer.line(f"POST /api/v1/agents/{AGENT}/run → 202, task {run.id}")
        printer.reached(run.status)
        return run


def follow(client: Client, printer: RunPrinter, run: Run) -> Run:
    """Show the run until it ends; the run then."""
    for event in client.events(run.id):
        printer.event(event)
        if printer.status in _WAITING:
            break
        if time.monotonic() - printer.started > _LONGEST_RUN:
            raise SampleFailed(f"The run did not end within {_LONGEST_RUN:.0f} s")
    printer.end_line()
    ended = client.get(run.id)
    printer.reached(ended.status)
    return ended


def run(url: str, key: str, console: Console) -> int:
    """Submit and follow; 0 if the run completed, else 1."""
    printer = RunPrinter(console)
    try:
        with Client(url, key) as client:
            ended = follow(client, printer, submit(client, printer))
    except (SampleFailed, ClientError) as problem:
        console.print(f"Sample run: {problem!s} ({type(problem).__name__})", style="red", markup=False)
        return 1
    if ended.status != "completed":
        why: Any = ended.error or {}
        console.print(f"The sample run ended {ended.status}: {why}", style="red", markup=False)
        return 1
    local = os.environ.get("RUNYARD_MODEL") == LOCAL
    console.print(_SMALL_MODEL if local else _OUTPUT, style="dim", soft_wrap=True)
    console.print(JSON.from_data(ended.output), soft_wrap=True)
    return 0


def main() -> None:
    """Entry point of the child process."""
    url, key_file = sys.argv[1], Path(sys.argv[2])
    console = Console(emoji=False)
    console.print("\nOne sample run, as any client would make it:", style="bold")
    if not key_file.exists():
        sys.exit(f"Sample run: there is no admin key in {key_file}.")
    code = run(url, key_file.read_text().strip(), console)
    if code == 0:
        Home(key_file.parent).sample_marker.touch()
    sys.exit(code)


if __name__ == "__main__":
    main()
