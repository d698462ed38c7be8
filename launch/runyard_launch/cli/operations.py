"""`runyard workers` and `runyard usage`: what runs the runs, what waits for it, and what models cost."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer

from runyard_launch.cli.listing import Limit, at
from runyard_launch.cli.remote import KeyFile, Url, ask, connected, show
from runyard_launch.cli.terminal import AsJson, done, examples, instant, print_rows
from runyard_launch.problems import CommandFailed, Outcome

workers_app = typer.Typer(no_args_is_help=True, help="See and drain workers, and what waits for them.")
usage_app = typer.Typer()
_WORKERS = {
    "id": "worker", "host": "host", "pid": "pid", "release": "release", "state": "state", "load": "runs",
    "loop_lag_s": "loop lag, s", "started_at": "started", "seen_at": "seen",
}  # fmt: skip
_QUEUE = {
    "running": "running", "waiting": "wait for a worker", "queued": "held by limits",
    "waiting_for_input": "wait for answers", "awaiting_review": "wait for reviews",
    "oldest_waiting_s": "oldest wait, s", "workers": "workers", "wanted_workers": "wanted",
}  # fmt: skip
_USAGE = {
    "name": "of", "turns": "turns", "input_tokens": "tokens in", "output_tokens": "tokens out", "cost": "cost, USD",
    "last_at": "last",
}  # fmt: skip
_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@workers_app.command("list")
def list_workers(url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List workers, with how many runs each has."""
    with connected(url, key_file) as client:
        found = ask(client, "GET", "/ops/workers")["data"]
    shown = [row | {"load": f"{row['running']} of {row['capacity']}"} for row in found]
    print_rows(found if as_json else shown, _WORKERS, as_json)


Worker = Annotated[str, typer.Argument(help="The worker's id (`runyard workers list`).")]


@workers_app.command()
def drain(worker: Worker, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Let a worker take no further run.

    Runs that it has go on; it stays, idle, until it is resumed or stopped.
    """
    with connected(url, key_file) as client:
        changed = ask(client, "POST", at("/ops/workers/{}/drain", worker), {})
    done(f"Worker {worker} takes no further run.", changed, as_json)


@workers_app.command()
def resume(worker: Worker, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Let a drained worker take runs again."""
    with connected(url, key_file) as client:
        changed = ask(client, "POST", at("/ops/workers/{}/resume", worker), {})
    done(f"Worker {worker} takes runs again.", changed, as_json)


@workers_app.command()
def queue(url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Show how many runs wait, and for what.

    And how many workers are wanted for them.
    """
    with connected(url, key_file) as client:
        found = ask(client, "GET", "/ops/queue")
    if as_json:
        show(found, as_json)
    else:
        print_rows([found], _QUEUE, as_json)


@usage_app.command(
    epilog=examples(
        "runyard usage", "runyard usage --by model --since 7d", "runyard usage --since 2026-11-01"
    )
)
def usage(
    by: Annotated[
        str, typer.Option(help="What a line sums up: agent, session, key, model or task.")
    ] = "agent",
    since: Annotated[
        str, typer.Option(help="From when: a time so long ago (30m, 12h, 7d, 4w), a date, or RFC 3339.")
    ] = "30d",
    until: Annotated[str | None, typer.Option(help="Up to when, in the same forms; else now.")] = None,
    limit: Limit = 50,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Sum up tokens and cost of models, the costliest first."""
    span = {"since": _moment(since, "since"), "until": _moment(until, "until") if until else None}
    params: dict[str, Any] = {name: value for name, value in span.items() if value is not None}
    with connected(url, key_file) as client:
        report = ask(client, "GET", "/usage", by=by, limit=limit, **params)
    if as_json:
        show(report, as_json)
        return
    whole = report["total"] | {"name": "all"}
    lines = [row | {"name": row["name"] or row["id"]} for row in report["data"]] + [whole]
    print_rows([line | {"cost": f"{line['cost']:.4f}"} for line in lines], _USAGE, as_json)


def _moment(text: str, field: str) -> str:
    """A moment as the API reads it."""
    from datetime import UTC, datetime

    if span := _SPAN.fullmatch(text):
        return str(instant(time.time() - int(span[1]) * _SECONDS[span[2]]))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailed(
            f"{text!r} is no time: write 30m, 12h, 7d or 4w, a date, or a time of RFC 3339.",
            "invalid_usage",
            Outcome.REFUSED,
            field=field,
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()
