"""The server that commands talk to, the key they send it, and what its refusals and a run's end mean for an exit code.

The server is the first of these that is given: `--url`, RUNYARD_URL, `--profile` or RUNYARD_PROFILE, the profile in
use (`runyard login`), the server of this machine's home. The admin key of the home goes only to a server that proves
that it is this home's (see `runyard_common.identity.rules.server_proof`).
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from runyard.server_url import base_url
from runyard_launch.cli import profiles
from runyard_launch.problems import CommandFailed, Outcome, SettingsProblem
from runyard_launch.problems import refused as refused_by

if TYPE_CHECKING:
    from runyard import Client
    from runyard.client_results import Run

_URL: Final = "RUNYARD_URL"
_API_KEY: Final = "RUNYARD_API_KEY"
_PROFILE: Final = "RUNYARD_PROFILE"


def _given_url(context: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """An option that is given and empty is a mistake, such as a variable that is not set, and not this machine."""
    if value.strip() or context.resilient_parsing:
        return value
    source = context.get_parameter_source(str(parameter.name))
    if source is not None and source.name == "COMMANDLINE":
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


@dataclass(frozen=True)
class Target:
    """A server's base URL and an API key for it."""

    url: str
    key: str


def chosen(url: str = "", key_file: Path | None = None) -> Target:
    """What to talk to. Raises `CommandFailed` where there is no key for it."""
    base = named_server(url)
    if base is None and not url:
        return _local(key_file)
    target = base or Target(server_url(url, "url"), "")
    key = _read(key_file) if key_file else target.key
    return Target(target.url, key) if key else _with_home_key(target.url)


def named_server(url: str = "") -> Target | None:
    """The server that an option, a variable or a profile names; None where it is this machine's home.

    The key is empty where the variable or profile has none, or belongs to another server than `--url` names.
    """
    known, environ_key = _given(_URL), _given(_API_KEY)
    environ_url = server_url(known, _URL) if known else ""
    if url:
        wanted = server_url(url, "url")
        same = environ_url in ("", wanted)
        return Target(wanted, usable_key(environ_key, _API_KEY) if same else "")
    if environ_url:
        return Target(environ_url, usable_key(environ_key, _API_KEY))
    profile = profiles.current(_given(_PROFILE))
    if profile is None:
        return None
    return Target(server_url(profile.url, "profile"), usable_key(profile.key or environ_key, "profile"))


def is_remote(url: str, key_file: Path | None) -> bool:
    """Whether a command goes to a server, and not to this machine's installation."""
    return bool(url or key_file) or named_server() is not None


def server_url(text: str, field: str) -> str:
    """A server's base URL; `CommandFailed` invalid_url names the field, and repeats nothing of the URL."""
    try:
        return base_url(text)
    except ValueError as error:
        raise CommandFailed(str(error), "invalid_url", Outcome.REFUSED, field=field) from None


def usable_key(text: str, field: str) -> str:
    """An API key; `CommandFailed` invalid_key for a text that cannot be sent as one."""
    key = text.strip()
    if all("!" <= character <= "~" for character in key):
        return key
    raise CommandFailed(
        "This is no API key: it has spaces, several lines, or characters that no key has. Give the text that "
        "`runyard keys create` wrote, and nothing else.",
        "invalid_key",
        Outcome.REFUSED,
        field=field,
    )


def _local(key_file: Path | None) -> Target:
    from runyard_launch.supervisor import home_server

    server = home_server.of_settings()
    key = _read(key_file) if key_file else usable_key(_given(_API_KEY), _API_KEY)
    if key:
        return Target(server.url, key)
    key = _read(server.admin_key)
    server.check()
    return Target(server.url, key)


def _with_home_key(url: str) -> Target:
    """The server at `url` with the admin key of this home, if the server is this home's."""
    from runyard_launch.supervisor import home_server

    try:
        server = home_server.of_settings(url)
    except SettingsProblem:
        server = None
    if server is None or not server.admin_key.exists():
        raise CommandFailed(
            f"There is no API key for {url}. Set RUNYARD_API_KEY, name a file with --key-file, or run "
            f"`runyard login {url}`.",
            "no_api_key",
            Outcome.REFUSED,
        )
    server.check()
    return Target(url, _read(server.admin_key))


def _read(file: Path) -> str:
    try:
        key = file.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError):
        key = ""
    if key:
        return usable_key(key, "key_file")
    raise CommandFailed(
        f"There is no key in {file}: name a file with --key-file, set RUNYARD_API_KEY, or start the server "
        "(runyard up), which makes one.",
        "no_api_key",
        Outcome.REFUSED,
    )


def _given(name: str) -> str:
    """A variable of the environment or of `.env`."""
    if value := os.environ.get(name):
        return value.strip()
    from runyard_common import env_file
    from runyard_common.values.errors import ConfigurationError

    try:
        return (env_file.variables().get(name) or "").strip()
    except ConfigurationError as error:
        raise SettingsProblem(error.message) from None


def outcome(run: Run) -> Outcome:
    """The exit code for a run's status."""
    if run.waits_for_people:
        return Outcome.WAITING
    return {"failed": Outcome.FAILED, "stopped": Outcome.STOPPED}.get(run.status, Outcome.COMPLETED)


@contextmanager
def connected(url: str, key_file: Path | None) -> Iterator[Client]:
    """A client of the server that is meant; what goes wrong inside is a `CommandFailed`."""
    with client_of(chosen(url, key_file)) as client:
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

    if method != "POST" and body is None:
        return client.send(replace(calls.get(path, **params), method=method))
    call = replace(calls.post(path, {} if isinstance(body, bytes) else body, repeatable=True), method=method)
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
