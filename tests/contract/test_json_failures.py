"""`--json` means JSON: each kind of failure of every command is one object on standard error, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from runyard_launch.cli import remote
from runyard_launch.cli.main import app
from runyard_launch.supervisor.process import free_port
from tests.contract.live import Live

Command = Callable[..., Result]
RUNYARD = [sys.executable, "-m", "runyard_launch.cli"]
#: What starts processes, or replaces itself by one: their output is that process's.
PROCESSES = {"up", "dev", "api", "worker", "scheduler", "migrate", "test"}
NOWHERE = "01a200be-0000-7000-8000-000000000000"
#: Every command with the arguments that it needs.
SERVER = {
    "run": "echo hello",
    "tasks list": "",
    "tasks show": NOWHERE,
    "tasks follow": NOWHERE,
    "tasks answer": f"{NOWHERE} yes",
    "tasks review": f"{NOWHERE} approve",
    "tasks cancel": NOWHERE,
    "tasks inbox": "",
    "tasks journal": NOWHERE,
    "replay": NOWHERE,
    "agents list": "",
    "events send": "paid",
    "agents publish": "greeter.yaml",
    "keys create": "ci",
    "keys list": "",
    "keys revoke": NOWHERE,
    "members invite": "a@example.com",
    "members list": "",
    "secrets list": "",
    "secrets set": "STRIPE_KEY",
    "secrets delete": "STRIPE_KEY",
    "tasks watch": "",
    "tasks logs": NOWHERE,
    "tasks retry": NOWHERE,
    "schedules list": "",
    "schedules show": NOWHERE,
    "schedules create": "echo @daily",
    "schedules preview": "@daily",
    "schedules fires": NOWHERE,
    "schedules pause": NOWHERE,
    "schedules resume": NOWHERE,
    "schedules trigger": NOWHERE,
    "schedules backfill": f"{NOWHERE} --since 2026-01-01",
    "schedules delete": NOWHERE,
    "webhooks list": "",
    "webhooks create": "https://example.com/hook",
    "webhooks test": NOWHERE,
    "webhooks enable": NOWHERE,
    "webhooks disable": NOWHERE,
    "webhooks rotate": NOWHERE,
    "webhooks delete": NOWHERE,
    "webhooks deliveries": "",
    "webhooks attempts": NOWHERE,
    "webhooks redeliver": NOWHERE,
    "webhooks replay": NOWHERE,
    "limits list": "",
    "limits set": "agent echo",
    "limits delete": NOWHERE,
    "workers list": "",
    "workers queue": "",
    "workers drain": NOWHERE,
    "workers resume": NOWHERE,
    "usage": "",
}
HOME = {
    "keys renew-admin": "",
    "keys rotate-secret": "",
    "members set-password": "missing@example.com",
    "members reset-second-factor": "missing@example.com",
    "secrets reseal": "",
    "orgs list": "",
    "orgs export": "default --to acme.zip",
    "orgs erase": "no-such-organisation",
    "users export": "missing@example.com --to x.zip",
    "users erase": "missing@example.com",
    "console": "",
}
PROFILES = {"login": "127.0.0.1:1", "logout": "nowhere", "profiles list": "", "profiles use": "nowhere"}
REPORTS = {"doctor": ""}  # what fails is its output
FOLDERS = {"init": "", "backup": "nowhere/x.tar.gz", "restore": "no-such-archive"}
ALL = SERVER | HOME | PROFILES | REPORTS | FOLDERS
#: What is piped into commands that ask for a secret.
GIVEN = {"members set-password": "a heron that wades\n", "secrets set": "a long value\n"}
#: What is not there, and the code of the refusal.
MISSING = {
    "run": ("no_such_agent hi", "agent_not_found"),
    "tasks list": ("--agent no_such_agent", "agent_not_found"),
    "tasks show": (NOWHERE, "task_not_found"),
    "tasks follow": (NOWHERE, "task_not_found"),
    "tasks answer": (f"{NOWHERE} yes", "task_not_found"),
    "tasks review": (f"{NOWHERE} approve", "task_not_found"),
    "tasks cancel": (NOWHERE, "task_not_found"),
    "tasks journal": (NOWHERE, "task_not_found"),
    "replay": (NOWHERE, "task_not_found"),
    "agents publish": ("nowhere.yaml", "not_a_manifest"),
    "keys revoke": (NOWHERE, "key_not_found"),
    "secrets delete": ("NO_SUCH_SECRET", "secret_not_found"),
    "tasks logs": (NOWHERE, "task_not_found"),
    "tasks retry": (NOWHERE, "task_not_found"),
    "schedules create": ("no_such_agent @daily", "agent_not_found"),
    **{
        f"schedules {one}": (NOWHERE, "schedule_not_found")
        for one in ("show", "preview", "fires", "pause", "delete")
    },
    **{
        f"webhooks {one}": (NOWHERE, "webhook_not_found")
        for one in ("test", "enable", "rotate", "replay", "delete")
    },
    "webhooks deliveries": (NOWHERE, "webhook_not_found"),
    "webhooks attempts": (NOWHERE, "delivery_not_found"),
    "webhooks redeliver": (NOWHERE, "delivery_not_found"),
    "limits delete": (NOWHERE, "limit_not_found"),
    "workers drain": (NOWHERE, "worker_not_found"),
    "workers resume": (NOWHERE, "worker_not_found"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without an installation, profile or variable, but with a manifest."""
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RUNYARD_PROFILE", "")  # which `--profile` sets for its process
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "_PATIENCE", 0.2)  # seconds that a command waits for a server
    manifest = 'name: "@json/greeter"\nversion: 1.0.0\ninstructions: Greet.\n'
    (tmp_path / "greeter.yaml").write_text(manifest)
    (tmp_path / "key").write_text("ry_this_is_no_key_of_any_server\n")
    return tmp_path


def failed(
    words: str, exit_code: int, code: str, *, options: str = "", given: str | None = None
) -> dict[str, Any]:
    """Run a command with `--json`, and with what it asks for; its failure, which has this exit code and this code."""
    if given is None:
        given = next((text for command, text in GIVEN.items() if words.startswith(command)), "")
    result = CliRunner().invoke(app, [*options.split(), *words.split(), "--json"], input=given)
    return _failure(result.exit_code, result.stdout, result.stderr, exit_code, code)


def _failure(returned: int, stdout: str, stderr: str, exit_code: int, code: str) -> dict[str, Any]:
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    error = dict(json.loads(lines[0])["error"])
    assert (returned, error["exit_code"], error["code"]) == (exit_code, exit_code, code), error
    assert error["message"]
    for line in stdout.splitlines():
        json.loads(line)
    return error


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(command, "list_commands"):
        yield " ".join(path)
        return
    for name in command.list_commands(None):
        yield from _commands(command.get_command(None, name), (*path, name))


def test_every_command_that_has_json_is_tried_here() -> None:
    assert set(_commands(typer.main.get_command(app))) - PROCESSES == set(ALL)


@pytest.mark.parametrize("command", ALL)
def test_wrong_usage(folder: Path, command: str) -> None:
    failed(f"{command} --no-such-option", 2, "invalid_usage")
    failed(f"{command} {ALL[command]} one too many words", 2, "invalid_usage")


@pytest.mark.parametrize("command", [command for command in ALL if ALL[command]])
def test_an_argument_that_is_left_out(folder: Path, command: str) -> None:
    assert failed(command, 2, "no_such_profile" if command == "logout" else "invalid_usage")["field"]


@pytest.mark.parametrize("command", SERVER)
def test_a_server_that_does_not_answer(folder: Path, command: str) -> None:
    away = f"--url http://127.0.0.1:{free_port()} --key-file key"
    error = failed(f"{command} {SERVER[command]} {away}", 5, "unreachable")
    assert "runyard up" in error["message"]


@pytest.mark.parametrize("command", SERVER)
def test_a_url_that_is_none(folder: Path, command: str) -> None:
    for url in ("ftp://host", "http://someone:s3cret@host", "--url="):
        option = f"--url {url}" if "://" in url else url
        error = failed(f"{command} {SERVER[command]} {option} --key-file key", 2, "invalid_url")
        assert error["field"] == "url"
        assert "s3cret" not in json.dumps(error)


@pytest.mark.parametrize("command", SERVER)
def test_a_wrong_key(live: Live, folder: Path, command: str) -> None:
    error = failed(f"{command} {SERVER[command]} --url {live.url()} --key-file key", 2, "key_unknown")
    assert error["status"] == 401


@pytest.mark.parametrize("command", SERVER)
def test_a_key_that_cannot_be_sent(live: Live, folder: Path, command: str) -> None:
    (folder / "key").write_text("two\nlines")
    failed(f"{command} {SERVER[command]} --url {live.url()} --key-file key", 2, "invalid_key")
    (folder / "key").unlink()
    failed(f"{command} {SERVER[command]} --url {live.url()} --key-file key", 2, "no_api_key")


@pytest.mark.parametrize("command", SERVER)
def test_a_profile_that_is_not_there(folder: Path, command: str) -> None:
    failed(f"{command} {SERVER[command]}", 2, "no_such_profile", options="--profile nowhere")


@pytest.mark.parametrize("command", MISSING)
def test_what_is_not_there(live: Live, folder: Path, command: str) -> None:
    (folder / "key").write_text(live.key)
    arguments, code = MISSING[command]
    failed(f"{command} {arguments} --url {live.url()} --key-file key", 2, code)


@pytest.mark.parametrize("command", SERVER | HOME)
def test_a_setting_that_does_not_exist(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("RUNYARD_PROT", "1")
    failed(f"{command} {(SERVER | HOME)[command]}", 2, "invalid_setting")


def test_a_source_of_agents_that_cannot_be_loaded(folder: Path) -> None:
    (folder / "broken.py").write_text("import no_such_module_at_all\n")
    assert "no_such_module_at_all" in failed("agents publish broken.py", 2, "configuration")["message"]


@pytest.mark.parametrize(
    "command",
    [
        "agents list",
        "keys create",
        "keys list",
        "keys revoke",
        "keys renew-admin",
        "keys rotate-secret",
        "members invite",
        "members list",
        "members set-password",
        "members reset-second-factor",
        "secrets reseal",
        "orgs list",
        "orgs export",
        "orgs erase",
        "users export",
        "users erase",
        "secrets list",
        "secrets set",
        "secrets delete",
    ],
)
def test_a_database_that_is_away(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("RUNYARD_DATABASE_URL", f"sqlite:///{folder}/none/x.db")
    monkeypatch.setenv("RUNYARD_SECRET_KEY", "a key of this installation")
    failed(f"{command} {ALL[command]}", 1, "database_unavailable")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("login 127.0.0.1:1", "no_api_key"),
        ("members set-password a@example.com", "no_password"),
        ("secrets set STRIPE_KEY", "no_value"),
    ],
)
def test_a_secret_that_is_not_typed_because_there_is_no_terminal(folder: Path, words: str, code: str) -> None:
    for given in ("", "\n", "  \n"):
        error = failed(words, 2, code, given=given)
        assert words.partition(" ")[0] in error["message"]  # how to pipe it in


def test_a_project_where_files_are(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    assert "README.md" in failed("init", 2, "files_exist")["message"]


def test_files_and_documents_that_cannot_be_read(folder: Path) -> None:
    (folder / "bytes").write_bytes(b"\xff\xfe\x00")
    for words in (
        "run echo --args @nowhere.json",
        "run echo --args @bytes",
        "run echo --args @.",
        "run echo --args {nonsense",
        "run echo --option nonsense",
        "run echo --file nowhere.txt",
        "run echo --file .",
        "tasks answer x @bytes --data",
    ):
        failed(words, 2, "invalid_usage")


def test_what_answers_and_is_no_runyard_server(folder: Path, pages: str) -> None:
    for words in (
        "run echo",
        "tasks list",
        f"tasks show {NOWHERE}",
        "keys list",
        "agents list",
        "members invite a@b.example",
    ):
        error = failed(f"{words} --url {pages} --key-file key", 1, "client_error")
        assert "no Runyard server" in error["message"]
    failed(f"login {pages}", 1, "client_error", given="ry_key\n")


@pytest.fixture
def pages() -> Iterator[str]:
    """The URL of a web server that answers every request with a page."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"<p/>")

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def started(words: str, **options: Any) -> subprocess.Popen[str]:
    """A command as a process of its own, with `--json`."""
    command = [*RUNYARD, *words.split(), "--json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, text=True, **pipes)


@pytest.mark.parametrize(
    "command", ["run", "tasks list", "tasks follow", "keys list", "agents publish", "login"]
)
def test_ctrl_c_while_the_server_is_silent(folder: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        words = (
            f"login {server}"
            if command == "login"
            else f"{command} {SERVER[command]} --url {server} --key-file key"
        )
        with started(words) as running:
            assert running.stdin is not None
            running.stdin.write("ry_key\n")
            running.stdin.close()
            running.stdin = None
            connection, _ = silent.accept()
            with connection:
                running.send_signal(signal.SIGINT)
                stdout, stderr = running.communicate(timeout=30)
    _failure(running.returncode, stdout, stderr, 130, "interrupted")


def test_ctrl_c_while_a_run_is_followed(live: Live, folder: Path) -> None:
    (folder / "key").write_text(live.key)
    key = f"--url {live.url()} --key-file key"
    with started(f'run sleeper --args {{"seconds":60}} --follow {key}') as running:
        assert running.stdout is not None
        first = json.loads(running.stdout.readline())
        task = first["task_id"]
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=30)
    error = _failure(running.returncode, stdout, stderr, 130, "interrupted")
    assert error["task_id"] == task
    assert error["follow"] == f"runyard tasks follow {task} {key}"
    with live.client() as client:
        assert client.get(f"/api/v1/tasks/{task}").json()["status"] in ("pending", "queued", "running")
        client.post(f"/api/v1/tasks/{task}/cancel", json={})


@pytest.mark.parametrize(
    "command", ["tasks list", "agents list", "keys list", "members list", "profiles list", "run"]
)
def test_a_reader_that_has_gone(live: Live, folder: Path, command: str) -> None:
    (folder / "key").write_text(live.key)
    key = f"--url {live.url()} --key-file key" if command in SERVER else ""
    readable, writable = os.pipe()
    os.close(readable)
    with started(f"{command} {ALL[command]} {key}", stdout=writable) as running:
        os.close(writable)
        _, stderr = running.communicate(timeout=30)
    _failure(running.returncode, "", stderr, 1, "broken_pipe")


def test_people_read_nothing_of_a_reader_that_has_gone(folder: Path) -> None:
    piped = f"{' '.join(RUNYARD)} --show-completion | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", piped], capture_output=True, text=True, env=os.environ | {"SHELL": "/bin/bash"}
    )
    assert done.stderr == ""


def test_a_defect_is_one_object_for_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("runyard_launch.cli.profiles.in_use", broken)
    assert "ZeroDivisionError: a defect" in failed("profiles list", 1, "internal_error")["message"]


def test_a_profiles_file_that_cannot_be_written(
    folder: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc")
    failed(f"login {live.url()}", 1, "system_error", given=live.key)
