"""URLs of servers: what is none is refused before a key is asked for, is not stored, and is not repeated."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runyard import AsyncClient, Client
from runyard.server_url import base_url
from runyard_launch.cli import login, profiles
from runyard_launch.cli.main import app

NONE = [
    "ftp://host",
    "nonsense://",
    "nonsense://s3cret",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "mailto:someone@s3cret.example",
    "http://someone:s3cret@host",
    "https://s3cret@host/path",
    "http://:s3cret@host",
    "someone:s3cret@host",
    "ftp://someone:s3cret@host",
    "http://host?token=s3cret",
    "host?token=s3cret",
    "http://host/#s3cret",
    "http://host/path?",
    "http://host#",
    "http://",
    "https:///path",
    "http:/host",
    "http://:8000",
    "http://host:",
    "http://host:0",
    "http://host:99999",
    "http://host:port",
    "http://[::1",
    "http://::1",
    "http://ho st",
    "http://host\\@s3cret",
    "http://host\x00",
    "http://host\nX-Header: s3cret",
    "",
    "   ",
    "/",
]
SOUND = {
    "runs.example.com": "http://runs.example.com",
    "127.0.0.1:8000/": "http://127.0.0.1:8000",
    " https://runs.example.com ": "https://runs.example.com",
    "HTTPS://runs.example.com:8443/runyard/": "HTTPS://runs.example.com:8443/runyard",
    "http://[::1]:8000": "http://[::1]:8000",
    "https://münchen.example": "https://münchen.example",
}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without an installation or a profile."""
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*words: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*words, "--json"], input="ry_key\n")
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "s3cret" not in result.stderr
    return dict(json.loads(result.stderr)["error"])


@pytest.mark.parametrize("url", NONE)
def test_login_refuses_what_is_no_url_of_a_server(
    url: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> str:
        raise AssertionError("the key was asked for")

    monkeypatch.setattr(login, "read_secret", asked)
    failure = refused("login", url)
    assert (failure["code"], failure["field"]) == ("invalid_url", "url")
    assert "https://HOST" in failure["message"] or "Leave them out" in failure["message"]
    assert not profiles.file().exists()
    done = CliRunner().invoke(app, ["login", url])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("runyard: The server's URL ")
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("url", NONE)
def test_every_other_command_refuses_it_as_an_option_a_variable_and_a_profile(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"url": refused("tasks", "list", "--url", url)}
    if url.strip() and "\x00" not in url:  # else the variable is not set
        monkeypatch.setenv("RUNYARD_URL", url)
        given["RUNYARD_URL"] = refused("keys", "list")
        with pytest.raises(ValueError, match="The server's URL"):
            Client(api_key="k")
        monkeypatch.delenv("RUNYARD_URL")
    profiles.save(profiles.Profile("old", url, "ry_key"), use=True)
    given["profile"] = refused("members", "list")
    assert {field: failure["code"] for field, failure in given.items()} == dict.fromkeys(given, "invalid_url")
    assert [failure["field"] for failure in given.values()] == list(given)


@pytest.mark.parametrize("url", [url for url in NONE if url])
def test_the_clients_refuse_it_too(url: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(ValueError, match="The server's URL") as caught:
            client(url, api_key="k")
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("given", "expected"), SOUND.items())
def test_what_is_a_url_of_a_server_is_kept_without_a_slash_at_its_end(given: str, expected: str) -> None:
    assert base_url(given) == expected


def test_a_name_that_no_profile_may_have_is_refused_before_the_key_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(login, "read_secret", None)
    failure = refused("login", "host", "--name", "local")
    assert (failure["code"], failure["field"]) == ("invalid_name", "name")


def at_a_terminal(words: list[str], typed: str) -> tuple[int, str, str]:
    """A command on a terminal of its own, where this is typed when it asks: its exit code, what the terminal shows,
    and standard error."""
    terminal, its = pty.openpty()
    shell = (
        'exec "$@" <"$TTY" >"$TTY" 2>stderr'  # who opens it first, in a session of its own, has it to ask at
    )
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "runyard_launch.cli", *words]
    running = subprocess.Popen(command, env=os.environ | {"TTY": os.ttyname(its)}, start_new_session=True)
    shown, prompts = b"", 0
    lines = typed.splitlines(keepends=True)
    while select.select([terminal], [], [], 0.05)[0] or running.poll() is None:
        if not select.select([terminal], [], [], 0)[0]:
            continue
        shown += os.read(terminal, 1024)
        # A prompt may come in pieces, and what is typed before the next one is thrown away: one line for each.
        if lines and shown.count(b":") > prompts:
            prompts += 1
            os.write(terminal, lines.pop(0).encode())
    os.close(terminal)
    os.close(its)
    return running.returncode, shown.decode(), Path("stderr").read_text()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("a heron that wades\na heron that waits\n", "passwords_differ"),
        ("\n", "no_password"),
        ("\x04", "no_password"),
        ("\x03", "interrupted"),
    ],
)
def test_a_password_typed_at_a_terminal_shows_nowhere_and_its_failure_is_json(typed: str, code: str) -> None:
    exit_code, shown, errors = at_a_terminal(["members", "set-password", "a@example.com", "--json"], typed)
    failure = json.loads(errors)["error"]
    assert (exit_code, failure["code"]) == (130 if code == "interrupted" else 2, code)
    assert "New password:" in shown
    assert "heron" not in shown + errors


@pytest.mark.processes
def test_a_closed_standard_input_is_no_terminal() -> None:
    closed = f"{sys.executable} -m runyard_launch.cli login host --json <&-"
    done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stderr)["error"]["code"]) == (2, "no_api_key")
