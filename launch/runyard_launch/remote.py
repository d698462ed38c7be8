"""The server that `runyard run` and `runyard tasks` talk to, and what its refusals mean for an exit code.

0 completed (or done as asked) · 1 the run failed · 2 refused, or wrong usage · 3 the run was stopped ·
4 it waits for a person · 5 nobody answers
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console
from rich.json import JSON

from runyard import Client
from runyard.client_results import ClientError, Refused, Run, Unreachable
from runyard_launch.preflight import read_settings
from runyard_launch.problems import StartProblem

Url = Annotated[str, typer.Option("--url", help="The server; else that of this machine's settings.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", help="A file that holds an API key; else admin.key of the home.")
]
_PATIENCE = 5.0


class Outcome(IntEnum):
    """The exit codes."""

    COMPLETED = 0
    FAILED = 1
    REFUSED = 2
    STOPPED = 3
    WAITING = 4
    UNREACHABLE = 5


def outcome(run: Run) -> Outcome:
    """The exit code that tells how a run stands."""
    if run.waits_for_people:
        return Outcome.WAITING
    return {"failed": Outcome.FAILED, "stopped": Outcome.STOPPED}.get(run.status, Outcome.COMPLETED)


@contextmanager
def connected(url: str, key_file: Path | None) -> Iterator[Client]:
    """A client; what goes wrong inside is told in a sentence and by the exit code."""
    try:
        settings = read_settings()
        with Client(
            url or settings.public_url or settings.local_url,
            api_key_file=key_file or settings.home / "admin.key",
            patience=_PATIENCE,
        ) as client:
            yield client
    except StartProblem as problem:
        _fail(str(problem), problem.exit_code)
    except FileNotFoundError as missing:
        _fail(f"There is no key in {missing.filename}: name one with --key-file.", Outcome.REFUSED)
    except Refused as refused:
        _fail(f"{refused} ({refused.code})", Outcome.REFUSED)
    except httpx2.InvalidURL as error:
        _fail(f"The server's URL cannot be read: {error}. Correct --url or the settings.", Outcome.REFUSED)
    except Unreachable:
        _fail("Nobody answers there. Is the server running (runyard up)?", Outcome.UNREACHABLE)
    except ClientError as error:
        _fail(str(error), Outcome.FAILED)


def _fail(message: str, code: int) -> None:
    typer.echo(f"runyard: {message}", err=True)
    raise typer.Exit(code)


def show(document: Any, as_json: bool) -> None:
    """Write a document: on one line for programs, coloured for people."""
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        Console().print(JSON.from_data(document), soft_wrap=True)


def read_json(text: str, option: str) -> Any:
    """The JSON of an option: the text itself, `@file`, or `-` for standard input."""
    if text == "-":
        text = typer.get_text_stream("stdin").read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text()
        except OSError as error:
            raise typer.BadParameter(f"{error.filename}: {error.strerror}", param_hint=option) from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"this is no JSON: {error}", param_hint=option) from None
