"""What commands write (tables for people, JSON for programs), and the secrets that they ask for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from runyard_launch.problems import CommandFailed, Outcome

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs; failures, too.")]
_WIDE = 220  # without a terminal no line is cut or folded


def examples(*commands: str) -> str:
    """The end of a command's help: commands as they are typed, a line each."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], as_json: bool) -> None:
    """Write rows. `columns` names the fields a table shows, with their headings; JSON has every field."""
    if as_json:
        typer.echo(json.dumps([dict(row) for row in rows], ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns.values(), box=None)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    Console(width=None if Console().is_terminal else _WIDE).print(table)


def done(sentence: str, facts: Mapping[str, Any], as_json: bool) -> None:
    """Write what a command did: a sentence for people, the facts for programs."""
    typer.echo(json.dumps(dict(facts), ensure_ascii=False, default=str) if as_json else sentence)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "—"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def read_secret(prompt: str, what: str, piped: str, *, twice: bool = False) -> str:
    """The text, without blanks around it where it is a key. Nothing is written but to the terminal.

    `what` names the field, `piped` is the command that gives it without a terminal. `twice`: a person types it
    again. Errors: `CommandFailed` no_<what> where none came, <what>s_differ.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        text = _typed(prompt)
        if text and twice and _typed(f"{prompt}, again") != text:
            raise CommandFailed(
                "The two entries differ. Nothing is changed: run the command again.",
                f"{what}s_differ",
                Outcome.REFUSED,
                field=what,
            )
    else:
        text = _piped()
    if not text.strip():
        raise CommandFailed(
            f"No {what.replace('_', ' ')} was given. Run this in a terminal, or pipe it in: {piped}",
            f"no_{what}",
            Outcome.REFUSED,
            field=what,
        )
    return text


def _typed(prompt: str) -> str:
    from getpass import getpass

    try:
        return getpass(f"{prompt}: ")
    except EOFError:
        return ""


def _piped() -> str:
    """The first line of standard input; nothing where it is closed, or no text."""
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        return ""
