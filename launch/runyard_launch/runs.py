"""`runyard run`: submit a run, and follow it if asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_launch.listing import AsJson
from runyard_launch.remote import KeyFile, Url, connected, outcome, read_json, show

if TYPE_CHECKING:
    from runyard import Client
    from runyard.client_results import Run

app = typer.Typer(add_completion=False, rich_markup_mode=None)
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Tell its life until it ends or waits for a person.")
]


@app.command()
def run(
    agent: Annotated[str, typer.Argument(help="@scope/name, name or id.")],
    message: Annotated[str | None, typer.Argument(help="What to do, for agents that talk.")] = None,
    args: Annotated[
        str | None, typer.Option("--args", help="Arguments: JSON, @file, or - for standard input.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", exists=True, help="Attach a file; repeat.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="A further field of the request, NAME=JSON; repeat."),
    ] = None,
    follow: Follow = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Run an agent. The exit code tells the outcome of a followed run: 0 completed, 1 failed, 3 stopped,
    4 waiting for a person; 2 means refused, 5 that nobody answers."""
    given = read_json(args, "--args") if args is not None else None
    options = dict(_option(text) for text in option or ())
    with connected(url, key_file) as client:
        files = {f"files[{n}]": path for n, path in enumerate(file or ())}
        submitted = client.run(agent, given, message=message, wait=False, files=files or None, **options)
        if follow:
            raise typer.Exit(follow_run(client, submitted, as_json))
        if as_json:
            show(dict(submitted.raw), as_json)
        else:
            typer.echo(submitted.id)


def _option(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=JSON", param_hint="--option")
    return name, read_json(value, "--option")


def follow_run(client: Client, run: Run, as_json: bool) -> int:
    """Tell a run until it has ended or waits for a person; the exit code. For programs, an event a line."""
    from rich.console import Console

    from runyard_launch.telling import Teller

    teller = Teller(Console(stderr=True))
    if not as_json:
        teller.line(f"task {run.id}")
        held = client.get(run.id).raw.get("queue") or {}
        if held.get("limit") == "worker":  # nothing happens until there is one: no event will say why
            teller.line(f"it waits: {held.get('basis')}")
    for event in client.events(run.id):
        if as_json:
            if event.seq:
                fields = ("seq", "type", "attempt", "at", "data")
                show({"task_id": event.run_id} | {name: getattr(event, name) for name in fields}, as_json)
        else:
            teller.event(event)
        # What is told of the past may have been answered since.
        asked = event.data.get("status") in ("waiting_for_input", "awaiting_review")
        if asked and client.get(run.id).waits_for_people:
            break
    teller.end_line()
    ended = client.get(run.id)
    _tell_end(ended, as_json)
    return outcome(ended)


def _tell_end(run: Run, as_json: bool) -> None:
    if as_json:
        show(dict(run.raw), as_json)
        return
    from rich.console import Console
    from rich.json import JSON

    if run.status == "completed":
        Console().print(JSON.from_data(run.output), soft_wrap=True)
        return
    told = Console(stderr=True)
    for question in run.questions:
        verb = "answer" if question.kind == "question" else "review"
        told.print(f"  {question.text or question.kind}", markup=False, soft_wrap=True)
        told.print(f"  runyard tasks {verb} {run.id} …", style="dim", markup=False, soft_wrap=True)
    if run.error:
        told.print(
            f"  {run.error.get('code')}: {run.error.get('message')}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        for line in str((run.error.get("details") or {}).get("traceback") or "").splitlines():
            told.print(f"  {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
