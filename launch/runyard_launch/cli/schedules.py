"""`runyard schedules`: runs that begin later, once or again and again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from runyard_launch.cli.listing import Limit, at, rows
from runyard_launch.cli.remote import KeyFile, Url, ask, connected, read_json, show
from runyard_launch.cli.terminal import AsJson, done, examples, print_rows

app = typer.Typer(no_args_is_help=True, help="Run agents later, once or again and again.")
Schedule = Annotated[str, typer.Argument(help="The schedule's id (`runyard schedules list`).")]
Zone = Annotated[str, typer.Option("--timezone", help="The IANA zone on whose clocks it is read.")]
_COLUMNS = {
    "id": "schedule", "name": "name", "agent": "agent", "schedule": "when", "timezone": "zone", "state": "state",
    "next_run_at": "next", "fired": "fired",
}  # fmt: skip
_FIRES = {"due_at": "due", "outcome": "outcome", "task_id": "task", "reason": "reason"}
_TIMES = {"at": "at", "local": "on its clocks", "note": "note"}
_MADE_UP = {"at": "due", "local": "on its clocks", "task_id": "task"}


@app.command("list")
def list_schedules(
    agent: Annotated[str | None, typer.Option(help="Only this agent's: id, @scope/name or name.")] = None,
    state: Annotated[str | None, typer.Option(help="Only of this state: active, paused or finished.")] = None,
    limit: Limit = 50,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List schedules."""
    with connected(url, key_file) as client:
        found = rows(client, "/schedules", limit, agent=agent, state=state)
    print_rows(found, _COLUMNS, as_json)


@app.command("show")
def show_schedule(
    schedule: Schedule, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Read a schedule whole."""
    with connected(url, key_file) as client:
        found = ask(client, "GET", at("/schedules/{}", schedule))
    show(found, as_json)


@app.command(
    epilog=examples(
        "runyard schedules create @demo/report '0 9 * * mon-fri' --timezone Europe/Berlin --name Morning",
        """runyard schedules create echo 2030-01-31T09:00 --args '{"n": 1}'""",
        "runyard schedules create echo 90 --message 'in a minute and a half'",
    )
)
def create(
    agent: Annotated[str, typer.Argument(help="Which agent: @scope/name, name or id.")],
    when: Annotated[str, typer.Argument(help="Seconds from now, a date or date-time, or a cron line.")],
    message: Annotated[str | None, typer.Option(help="What to do, for agents that talk.")] = None,
    args: Annotated[
        str | None, typer.Option("--args", help="Arguments: JSON, @file, or - for standard input.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    timezone: Zone = "UTC",
    overlap: Annotated[
        str | None,
        typer.Option(help="While an earlier run has not ended: skip, queue, allow or stop_running."),
    ] = None,
    catch_up: Annotated[
        str | None, typer.Option(help="Of times that were missed: none, last or all.")
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Make it paused.")] = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a schedule."""
    given = read_json(args, "--args") if args is not None else None
    run: dict[str, Any] = {"query": message, "args": {} if message is None and given is None else given}
    body: dict[str, Any] = {
        "agent": agent, "schedule": when, "timezone": timezone, "enabled": not paused,
        "run": _given(run),
    } | _given({"name": name, "overlap": overlap, "catch_up": catch_up})  # fmt: skip
    with connected(url, key_file) as client:
        made = ask(client, "POST", "/schedules", body)
    show(made, as_json) if as_json else typer.echo(made["id"])


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@app.command()
def preview(
    when: Annotated[str, typer.Argument(help="A schedule's id, or what would be its date or cron line.")],
    timezone: Zone = "UTC",
    count: Annotated[int, typer.Option(min=1, max=100, help="How many times.")] = 5,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the next times of a schedule.

    Of one that is made, by its id, or of one that is not.
    """
    with connected(url, key_file) as client:
        if _is_id(when):
            found = ask(client, "GET", at("/schedules/{}/preview", when), count=count)
        else:
            body = {"schedule": when, "timezone": timezone, "count": count}
            found = ask(client, "POST", "/schedules/preview", body)
    print_rows(found["data"], _TIMES, as_json)


def _is_id(text: str) -> bool:
    from uuid import UUID

    try:
        UUID(text)
    except ValueError:
        return False
    return "-" in text


@app.command()
def fires(
    schedule: Schedule, limit: Limit = 20, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List what a schedule has fired, newest first."""
    with connected(url, key_file) as client:
        found = rows(client, at("/schedules/{}/fires", schedule), limit)
    print_rows(found, _FIRES, as_json)


@app.command(
    epilog=examples(
        "runyard schedules backfill SCHEDULE --since 2030-01-01 --dry-run",
        "runyard schedules backfill SCHEDULE --since 2030-01-01T00:00Z --until 2030-01-08T00:00Z",
    )
)
def backfill(
    schedule: Schedule,
    since: Annotated[
        str, typer.Option(help="The first due time, a date or date-time (UTC without an offset).")
    ],
    until: Annotated[str | None, typer.Option(help="The last due time; by default now.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many runs at most.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the times.")] = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the runs of due times that passed without one.

    What is beyond the limit is named in the end: call again with that --since.
    """
    body = _given({"since": since, "until": until, "limit": limit, "dry_run": dry_run})
    with connected(url, key_file) as client:
        made = ask(client, "POST", at("/schedules/{}/backfill", schedule), body)
    if as_json:
        show(made, as_json)
        return
    print_rows(made["data"], _MADE_UP, as_json)
    if made["next_since"]:
        typer.echo(f"There is more: --since {made['next_since']}")


@app.command()
def pause(
    schedule: Schedule,
    reason: Annotated[str | None, typer.Option(help="Why; the schedule shows it.")] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Pause a schedule.

    The times that pass meanwhile are missed.
    """
    with connected(url, key_file) as client:
        changed = ask(
            client, "POST", at("/schedules/{}/pause", schedule), {"reason": reason} if reason else {}
        )
    done(f"Schedule {schedule} is paused.", changed, as_json)


@app.command()
def resume(schedule: Schedule, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Let a paused schedule go on."""
    with connected(url, key_file) as client:
        changed = ask(client, "POST", at("/schedules/{}/resume", schedule), {})
    done(f"Schedule {schedule} goes on; next: {changed['next_run_at'] or 'never'}.", changed, as_json)


@app.command()
def trigger(schedule: Schedule, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Run what is scheduled now, besides its times.

    The task's id goes to standard output.
    """
    with connected(url, key_file) as client:
        made = ask(client, "POST", at("/schedules/{}/trigger", schedule), {})
    show(made, as_json) if as_json else typer.echo(made["task_id"])


@app.command()
def delete(schedule: Schedule, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Delete a schedule; its runs stay."""
    with connected(url, key_file) as client:
        ask(client, "DELETE", at("/schedules/{}", schedule))
    done(f"Schedule {schedule} is deleted.", {"id": schedule, "deleted": True}, as_json)
