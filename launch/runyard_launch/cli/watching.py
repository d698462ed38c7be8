"""`runyard tasks watch, logs, retry`: tasks as they change, what a run has written, and running one once more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_launch.cli import runs
from runyard_launch.cli.following import again, follow_run
from runyard_launch.cli.listing import at
from runyard_launch.cli.remote import KeyFile, Url, connected, show
from runyard_launch.cli.runs import Follow, Task
from runyard_launch.cli.terminal import AsJson, examples

if TYPE_CHECKING:
    from runyard import Client

app = runs.app  # `runyard tasks`, of which these are further commands
_LEVELS = ("debug", "info", "warn", "error")
_CHANGED = ("task_id", "status", "agent", "updated_at", "title")


@app.command(epilog=examples("runyard tasks watch", "runyard tasks watch --agent @demo/echo --seconds 60"))
def watch(
    status: Annotated[str | None, typer.Option(help="Only of these statuses, comma-separated.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's: id, @scope/name or name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many of the newest.")] = 20,
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which it ends; else Ctrl-C does.")
    ] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Watch the newest tasks change.

    A table on a terminal; elsewhere, and with --json, a line for each change.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    with connected(url, key_file) as client:
        chosen = {"status": status, "agent_id": runs.agent_id(client, agent) if agent else None}
        looks = _looks(client, chosen, limit, every, deadline)
        if as_json or not _on_terminal():
            _print_changes(looks, as_json)
        else:
            _redraw(looks)


def _on_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _looks(
    client: Client, chosen: dict[str, str | None], limit: int, every: float, deadline: float | None
) -> Iterator[list[dict[str, Any]]]:
    while True:
        yield [dict(run.raw) for run in islice(client.list(**chosen), limit)]
        if deadline is not None and time.monotonic() + every > deadline:
            return
        time.sleep(every)


def _print_changes(looks: Iterator[list[dict[str, Any]]], as_json: bool) -> None:
    known: dict[str, str] = {}
    for found in looks:
        for task in reversed(found):
            if known.get(task["task_id"]) == task["status"]:
                continue
            known[task["task_id"]] = task["status"]
            if as_json:
                show({name: task[name] for name in _CHANGED}, as_json)
            else:
                typer.echo(f"{task['updated_at']}  {task['task_id']}  {task['status']:<17}  {task['agent']}")


def _redraw(looks: Iterator[list[dict[str, Any]]]) -> None:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        for found in looks:
            table = Table("task", "status", "agent", "changed", "title", box=None)
            for task in found:
                cells = (
                    task["task_id"],
                    task["status"],
                    task["agent"],
                    task["updated_at"],
                    task["title"] or "",
                )
                table.add_row(*map(Text, cells))
            live.update(table, refresh=True)


@app.command(epilog=examples("runyard tasks logs TASK", "runyard tasks logs TASK --follow --level warn"))
def logs(
    task: Task,
    level: Annotated[str, typer.Option(help="From this level on: debug, info, warn or error.")] = "debug",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write what a run has logged and printed."""
    if level not in _LEVELS:
        raise typer.BadParameter(f"{level!r} is none of {', '.join(_LEVELS)}", param_hint="--level")
    wanted = _LEVELS[_LEVELS.index(level) :]
    with connected(url, key_file) as client:
        events = _live(client, task) if follow else _stored(client, task)
        for event in events:
            data = event["data"]
            if event["type"] != "log" or data.get("level", "info") not in wanted:
                continue
            if as_json:
                show({"at": event["at"], "attempt": event["attempt"]} | data, as_json)
            else:
                source = f" [{data['source']}]" if data.get("source") else ""
                typer.echo(
                    f"{event['at']}  {data.get('level', 'info'):<5}{source}  {data.get('message', '')}"
                )


def _live(client: Client, task: str) -> Iterator[dict[str, Any]]:
    for event in client.events(task, tokens=False):
        yield {name: getattr(event, name) for name in ("type", "at", "attempt", "data")}


def _stored(client: Client, task: str) -> Iterator[dict[str, Any]]:
    from runyard import client_calls as calls

    path, after = at("/tasks/{}/events", task), 0
    while True:
        call = calls.get(path, after=after, limit=1000, tokens="false")
        page = client.send(replace(call, headers={"Accept": "application/json"}))
        yield from page["data"]
        if not page["data"] or page["next_after"] == after:
            return
        after = page["next_after"]


@app.command()
def retry(
    context: typer.Context,
    task: Task,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="From the beginning, and not from the last step that is done.")
    ] = False,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from-step", metavar="KEY", help="Do the step with this key again, and what began after it."
        ),
    ] = None,
    follow: Follow = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Run a task that has ended once more, as a task of its own. Its id goes to standard output.

    With --follow the exit codes are those of `runyard run --follow`.
    """
    with connected(url, key_file) as client:
        made = client.retry(task, fresh=fresh, from_step=from_step)
        if follow:
            raise typer.Exit(follow_run(client, made, as_json, again(context, made.id, url, key_file)))
    if as_json:
        show(dict(made.raw), as_json)
    else:
        typer.echo(made.id)
