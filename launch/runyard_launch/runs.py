"""`runyard run`: submit a run, and follow it if asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from runyard_launch.following import again, follow_run
from runyard_launch.listing import AsJson, examples
from runyard_launch.remote import KeyFile, Url, connected, read_json, show

app = typer.Typer(add_completion=False, rich_markup_mode=None)
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Show its events until it ends or waits for a person.")
]


@app.command(
    epilog=examples(
        'runyard run echo "hello" --follow',
        """runyard run @demo/invoice_check --args '{"lines": [{"amount": 12.5}]}'""",
        """runyard run echo --args @order.json --file invoice.pdf -o 'metadata={"order": 7}' --json""",
    )
)
def run(
    context: typer.Context,
    agent: Annotated[
        str, typer.Argument(help="Which agent: @scope/name, name or id (`runyard agents list`).")
    ],
    message: Annotated[str | None, typer.Argument(help="What to do, for agents that talk.")] = None,
    args: Annotated[
        str | None, typer.Option("--args", help="Arguments: JSON, @file, or - for standard input.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            exists=True,
            dir_okay=False,
            readable=True,
            help="A file to attach; repeat the option for more.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            help="A further field of the request (docs/api.md), as NAME=JSON; repeat the option for more.",
        ),
    ] = None,
    follow: Follow = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Run an agent. The task's id goes to standard output, with --follow the run's output.

    The exit code is the outcome of a followed run: 0 completed, 1 failed, 3 stopped, 4 waiting for a person. 2 means
    that the run was refused, 5 that the server does not answer: a run that is followed goes on without it.
    """
    given = read_json(args, "--args") if args is not None else None
    options = dict(_option(text) for text in option or ())
    with connected(url, key_file) as client:
        files = {f"files[{n}]": path for n, path in enumerate(file or ())}
        submitted = client.run(agent, given, message=message, wait=False, files=files or None, **options)
        if follow:
            raise typer.Exit(
                follow_run(client, submitted, as_json, again(context, submitted.id, url, key_file))
            )
        if as_json:
            show(dict(submitted.raw), as_json)
        else:
            typer.echo(submitted.id)


def _option(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=JSON", param_hint="--option")
    return name, read_json(value, "--option")
