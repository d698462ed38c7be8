"""The server that `runyard run` and `runyard tasks` talk to, and what its refusals mean for an exit code.

0 completed (or done as asked) · 1 the run failed · 2 refused, or wrong usage · 3 the run was stopped ·
4 it waits for a person · 5 nobody answers
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_launch.problems import CommandFailed

if TYPE_CHECKING:
    from runyard import Client
    from runyard.client_results import Run
    from runyard_launch.target import Target

Url = Annotated[
    str,
    typer.Option(
        "--url", help="The server; else RUNYARD_URL, a profile, or that of this machine's settings."
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file", help="A file that holds an API key; else RUNYARD_API_KEY, or admin.key of the home."
    ),
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
    """A client of the server that is meant; what goes wrong inside is a `CommandFailed`."""
    from runyard_launch import target

    with client_of(target.chosen(url, key_file)) as client:
        yield client


@contextmanager
def client_of(server: Target) -> Iterator[Client]:
    """A client of this server; what goes wrong inside is a `CommandFailed`."""
    import httpx2

    from runyard.client import Client
    from runyard.client_results import ClientError, Refused, Unreachable
    from runyard_launch import home_server

    try:
        with Client(server.url, api_key=server.key, patience=_PATIENCE) as client:
            yield client
    except Refused as refused:
        raise failure(refused) from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise CommandFailed(
            f"The server's URL cannot be read: {error}. Correct --url or the settings.",
            "invalid_url",
            Outcome.REFUSED,
        ) from None
    except Unreachable:
        raise home_server.unreachable(server.url) from None
    except ClientError as error:
        raise CommandFailed(str(error), "client_error", Outcome.FAILED) from None


def ask(
    client: Client, method: str, path: str, body: Any = None, *, kind: str = "application/json", **params: Any
) -> Any:
    """A request to the native API; the answer's JSON. A body of bytes is sent as it is, as a document of `kind`."""
    from runyard import client_calls as calls

    if method != "POST":
        return client.send(replace(calls.get(path, **params), method=method))
    call = calls.post(path, {} if isinstance(body, bytes) else body, repeatable=True)
    content = body if isinstance(body, bytes) else call.content
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": kind}
    return client.send(replace(call, headers=headers, content=content))


def failure(refused: Any) -> CommandFailed:
    """The failure of a command that the server refused, with what the server named."""
    details = {name: getattr(refused, name) for name in ("field", "retry_after", "request_id", "status")}
    return CommandFailed(f"{refused} ({refused.code})", refused.code, Outcome.REFUSED, **details)


def show(document: Any, as_json: bool) -> None:
    """Write a document: on one line for programs, coloured for people."""
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.json import JSON

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
