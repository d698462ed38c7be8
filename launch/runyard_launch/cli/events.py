"""`runyard events`: events from outside, for runs that wait for them."""

from __future__ import annotations

from typing import Annotated

import typer

from runyard_launch.cli.remote import KeyFile, Url, connected, read_json
from runyard_launch.cli.terminal import AsJson, done, examples

app = typer.Typer(no_args_is_help=True, help="Send events to runs that wait for them.")


@app.callback()
def events() -> None:
    """Send events to runs that wait for them."""


@app.command(
    epilog=examples(
        """runyard events send order_paid --key 4711 --data '{"amount": 12.5}'""",
        "runyard events send go_on --task 019c1f2b-7d41-7a36-8d52-6a4be3d1f0a1",
    )
)
def send(
    name: Annotated[str, typer.Argument(help="What the runs wait for.")],
    data: Annotated[
        str | None, typer.Option("--data", help="What they get: JSON, @file, or - for standard input.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="For the runs that wait with this key.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="For this run alone.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="For the runs of this session.")] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Send an event to runs that wait for it.

    To one run, to those of a session, or to all that wait with the key, or without one.
    """
    given = read_json(data, "--data") if data is not None else None
    with connected(url, key_file) as client:
        delivered = client.send_event(name, given, run_id=task, session_id=session, key=key)
    runs = "one run goes" if delivered == 1 else f"{delivered} runs go"
    done(f"Sent: {runs} on.", {"name": name, "delivered": delivered}, as_json)
