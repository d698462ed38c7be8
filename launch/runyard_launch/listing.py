"""What a command lists: a table for people, one JSON array for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs; failures, too.")]
_WIDE = 220  # where nobody looks: no line is cut or folded


def examples(*commands: str) -> str:
    """The end of a command's help: commands as they are typed, a line each."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


def tell(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], as_json: bool) -> None:
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
