"""The server that commands talk to, and what its refusals and a run's end mean for an exit code."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_launch.problems import CommandFailed, Outcome
from runyard_launch.problems import refused as refused_by

if TYPE_CHECKING:
    from runyard import Client
    from runyard.client_results import Run
    from runyard_launch.cli.target import Target


def _given_url(context: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """An option that is given and empty is a mistake, such as a variable that is not set, and not this machine."""
    if value.strip() or context.resilient_parsing:
        return value
    source = context.get_parameter_source(str(parameter.name))
    if source is not None and source.name == "COMMANDLINE":
        from runyard_launch.cli.target import server_url

        server_url(value, "url")
    return value


Url = Annotated[
    str,
    typer.Option(
        "--url",
        callback=_given_url,
        help="The server, such as https://runs.example.com; else RUNYARD_URL, the profile in use (`runyard "
        "profiles list`), or this machine's installation.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="A file that holds an API key; else RUNYARD_API_KEY, the profile's key, or admin.key of this machine's "
        "installation.",
    ),
]
_PATIENCE = 5.0


def outcome(run: Run) -> Outcome:
    """The exit code that tells how a run stands."""
    if run.waits_for_people:
        return Outcome.WAITING
    return {"failed": Outcome.FAILED, "stopped": Outcome.STOPPED}.get(run.status, Outcome.COMPLETED)


@contextmanager
def connected(url: str, key_file: Path | None) -> Iterator[Client]:
    """A client of the server that is meant; what goes wrong inside is a `CommandFailed`."""
    from runyard_launch.cli import target

    with client_of(target.chosen(url, key_file)) as client:
        yield client


@contextmanager
def client_of(server: Target) -> Iterator[Client]:
    """A client of this server; what goes wrong inside is a `CommandFailed`."""
    import httpx2

    from runyard.client import Client
    from runyard.client_results import ClientError, Refused, Unreachable
    from runyard_launch.supervisor import home_server

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
    details = {name: getattr(refused, name) for name in ("field", "retry_after", "request_id")}
    return refused_by(str(refused), refused.code, refused.status, **details)


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
        text = _text(sys.stdin.buffer.read(), "standard input", option)
    elif text.startswith("@"):
        try:
            content = Path(text[1:]).expanduser().read_bytes()
        except (OSError, RuntimeError, ValueError) as error:  # not readable, no such home, a null character
            reason = getattr(error, "strerror", None) or error
            raise typer.BadParameter(f"{text[1:]}: {reason}", param_hint=option) from None
        text = _text(content, text[1:], option)
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"this is no JSON: {error}", param_hint=option) from None


def _text(content: bytes, source: str, option: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{source} is no UTF-8 text", param_hint=option) from None
