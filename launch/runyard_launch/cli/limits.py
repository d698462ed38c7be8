"""`runyard limits`: how much may run at once, start in a time, or use of models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from runyard_launch.cli.listing import at
from runyard_launch.cli.remote import KeyFile, Url, ask, connected, show
from runyard_launch.cli.terminal import AsJson, done, examples, print_rows
from runyard_launch.problems import CommandFailed, Outcome

app = typer.Typer(no_args_is_help=True, help="See and set limits.")
_COLUMNS = {
    "id": "limit", "kind": "kind", "selector": "for", "max_concurrent": "at once", "rate": "starts",
    "tokens_per_minute": "tokens a minute", "strategy": "when full", "by": "set by",
}  # fmt: skip


@app.command("list")
def list_limits(url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the limits that hold for the organisation."""
    with connected(url, key_file) as client:
        found = ask(client, "GET", "/limits")["data"]
    print_rows(found if as_json else [_shown(row) for row in found], _COLUMNS, as_json)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    rate = f"{row['rate_count']} in {row['rate_seconds']:g} s" if row["rate_count"] is not None else None
    return row | {"rate": rate, "by": "the operator" if row["operator"] else "the organisation"}


def _rate(text: str | None) -> tuple[int, float] | None:
    """``10/60``: ten in sixty seconds."""
    if text is None:
        return None
    count, found, seconds = text.partition("/")
    try:
        return int(count), float(seconds) if found else 1.0
    except ValueError:
        raise CommandFailed(
            f"{text!r} is no rate: write starts/seconds, such as 10/60.",
            "invalid_usage",
            Outcome.REFUSED,
            field="rate",
        ) from None


@app.command(
    "set",
    epilog=examples(
        "runyard limits set agent @demo/report --concurrent 5",
        "runyard limits set session --concurrent 1",
        "runyard limits set organisation --rate 100/60 --when-full reject",
    ),
)
def set_limit(
    kind: Annotated[
        str, typer.Argument(help="What it counts by: organisation, agent, end_user, session, model or key.")
    ],
    selector: Annotated[
        str, typer.Argument(help="Which one, by its name or id; * means each by itself.")
    ] = "*",
    concurrent: Annotated[int | None, typer.Option(min=0, help="Runs at once.")] = None,
    rate: Annotated[str | None, typer.Option(help="Starts in a time, as starts/seconds.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=0, help="Tokens a minute.")] = None,
    when_full: Annotated[
        str | None, typer.Option("--when-full", help="What becomes of more: enqueue, reject or interrupt.")
    ] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Set a limit: a new one, or other values of one that is there.

    What is not given stays as it is.
    """
    starts = _rate(rate)
    given = {
        "max_concurrent": concurrent, "rate_count": starts and starts[0], "rate_seconds": starts and starts[1],
        "tokens_per_minute": tokens, "strategy": when_full,
    }  # fmt: skip
    wanted = {name: value for name, value in given.items() if value is not None}
    with connected(url, key_file) as client:
        there = [
            row
            for row in ask(client, "GET", "/limits")["data"]
            if not row["operator"] and (row["kind"], row["selector"]) == (kind, selector)
        ]
        body = {"kind": kind, "selector": selector} | (_values(there[0]) if there else {}) | wanted
        if there:
            made = ask(client, "PUT", at("/limits/{}", there[0]["id"]), body)
        else:
            made = ask(client, "POST", "/limits", body)
    if as_json:
        show(made, as_json)
    else:
        print_rows([_shown(made)], _COLUMNS, as_json)


def _values(row: dict[str, Any]) -> dict[str, Any]:
    fields = ("max_concurrent", "rate_count", "rate_seconds", "tokens_per_minute", "strategy")
    return {name: row[name] for name in fields if row[name] is not None}


@app.command()
def delete(
    limit: Annotated[str, typer.Argument(help="The limit's id (`runyard limits list`).")],
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete a limit; what it has kept waiting starts."""
    with connected(url, key_file) as client:
        ask(client, "DELETE", at("/limits/{}", limit))
    done(f"Limit {limit} is deleted.", {"id": limit, "deleted": True}, as_json)
