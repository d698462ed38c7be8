"""The command line at first contact: help that starts nothing, the version, completion, failures for programs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from runyard_launch.cli.main import app

pytestmark = pytest.mark.processes

RUNYARD = [sys.executable, "-m", "runyard_launch.cli"]
PROCESSES = ("runyard_api", "runyard_scheduler", "runyard_common.database.migrate")
#: How often the processor time of a small command of the same library help may cost; 1.6 is usual.
HELP_WITHIN = 3
SMALL_COMMAND = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
@app.command()
def one(name: str) -> None: ...
@app.command()
def two(name: str) -> None: ...
app()
"""
#: What starts processes, or replaces itself by one: their output is that process's.
WITHOUT_JSON = {"up", "dev", "api", "worker", "scheduler", "migrate", "test"}
#: Calls of the command in one process; after each: its words, its exit code, and the modules imported until then.
HELPS = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv = ["runyard", *words]
    try:
        runpy.run_module("runyard_launch.cli", run_name="__main__")
    except SystemExit as ended:
        print(json.dumps([words, ended.code, list(sys.modules)]), file=sys.stderr)
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Nothing of Runyard's but a home that is not there; a home folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    return kept | {"RUNYARD_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "SHELL": "/bin/bash"}


def call(environ: dict[str, str], *words: str, program: list[str] = RUNYARD) -> Any:
    return subprocess.run(
        [*program, *words], env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def cpu(environ: dict[str, str], *words: str, program: list[str] = RUNYARD) -> float:
    """The processor time of a command that succeeds, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = call(environ, *words, program=program)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert shown.returncode == 0
    return after.ru_utime - before.ru_utime


def commands(command: Any = None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command, by its words."""
    command = command or typer.main.get_command(app)
    if not hasattr(command, "list_commands"):
        return {path: command}
    found: dict[tuple[str, ...], Any] = {}
    for name in command.list_commands(None):
        found |= commands(command.get_command(None, name), (*path, name))
    return found


@pytest.mark.parametrize("command", ["api", "worker", "scheduler", "migrate"])
def test_help_of_a_process_is_our_own_and_starts_nothing(environ: dict[str, str], command: str) -> None:
    shown = call(environ, command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"runyard {command}" in shown.stdout
    assert "celery worker [" not in shown.stdout
    assert not Path(environ["RUNYARD_HOME"]).exists(), "something was started"


@pytest.mark.parametrize("module", PROCESSES)
def test_help_of_a_module_starts_nothing(environ: dict[str, str], module: str) -> None:
    shown = call(environ, "--help", program=[sys.executable, "-m", module])
    assert shown.returncode == 0
    assert not Path(environ["RUNYARD_HOME"]).exists(), "something was started"


@pytest.mark.parametrize("command", ["api", "scheduler"])
def test_an_option_that_a_process_has_not_is_refused(environ: dict[str, str], command: str) -> None:
    refused = call(environ, command, "--port", "1")
    assert (refused.returncode, "--port" in refused.stderr) == (2, True)
    assert not Path(environ["RUNYARD_HOME"]).exists()


@pytest.mark.parametrize("words", ["", "tasks", "run", "keys create", "members", "agents", "up", "api"])
def test_help_costs_little_more_than_that_of_a_small_command(environ: dict[str, str], words: str) -> None:
    ours, small = [], []
    for _ in range(3):  # side by side: how much a machine does in a second differs with what else it does
        ours.append(cpu(environ, *words.split(), "--help"))
        small.append(cpu(environ, "one", "--help", program=[sys.executable, "-c", SMALL_COMMAND]))
    assert min(ours) < HELP_WITHIN * min(small)


def test_help_imports_no_database_no_celery_and_no_http_client(environ: dict[str, str]) -> None:
    one_of_each = {path[0]: path for path in commands()}.values()  # modules are imported for a whole group
    asked = [["--help"], *([*path, "--help"] for path in one_of_each if path[0] not in WITHOUT_JSON)]
    shown = call(environ, json.dumps(asked), program=[sys.executable, "-c", HELPS])
    assert shown.returncode == 0, shown.stderr
    imported = [json.loads(line) for line in shown.stderr.splitlines()]
    assert [words for words, _, _ in imported] == asked
    for words, exit_code, modules in imported:
        assert exit_code == 0, words
        assert "runyard_launch.cli.main" in modules
        assert not set(modules) & {"sqlalchemy", "celery", "httpx2", "rich"}, words


def test_the_version_is_shown(environ: dict[str, str]) -> None:
    shown = call(environ, "--version")
    assert (shown.returncode, shown.stdout) == (0, "runyard 0.1.0\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("runyard ta", {"tasks"}),
        ("runyard ", {"up", "tasks", "keys", "login"}),
        ("runyard tasks ", {"list", "show", "answer"}),
        ("runyard tasks list --ag", {"--agent"}),
        ("runyard keys create ci --role ", {"owner", "viewer"}),
    ],
)
def test_the_shell_completes_commands_options_and_values(
    environ: dict[str, str], typed: str, offered: set[str]
) -> None:
    asked = {"_RUNYARD_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    shown = call(environ | asked)
    assert shown.returncode == 0
    assert offered <= set(shown.stdout.split())


def test_the_completion_that_is_installed_completes_in_a_real_shell(environ: dict[str, str]) -> None:
    installed = call(environ, "--install-completion")
    assert installed.returncode == 0, installed.stderr
    assert str(Path(environ["HOME"])) in installed.stdout
    script = Path(environ["HOME"]) / ".bash_completions/runyard.sh"
    shown = call(environ, "--show-completion")
    assert shown.stdout.strip() == script.read_text().strip()
    program = Path(sys.executable).with_name("runyard")
    typed = (
        f"source {script}; COMP_WORDS=({program} ta) COMP_CWORD=1; _runyard_completion {program}; "
        'echo "${COMPREPLY[@]}"'
    )
    completed = call(environ, typed, program=["bash", "-c"])
    assert completed.stdout.split() == ["tasks"], completed.stderr


def test_completion_in_an_unknown_shell_is_refused(environ: dict[str, str]) -> None:
    shown = call(environ | {"SHELL": "/bin/elvish"}, "--show-completion")
    if shown.returncode:  # else the test itself was started from a shell, which is found first
        assert (shown.returncode, "SHELL=" in shown.stderr) == (2, True)


def test_every_command_takes_json() -> None:
    found = commands()
    assert len(found) > 20
    for path, command in found.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert path[0] in WITHOUT_JSON or "--json" in options, path


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (["tasks", "list"], 2, "no_api_key"),
        (["tasks", "lst"], 2, "invalid_usage"),
        (["tasks", "list", "--limit", "many"], 2, "invalid_usage"),
        (["run"], 2, "invalid_usage"),
        (["run", "echo", "--args", "{nonsense"], 2, "invalid_usage"),
        (["nonsense"], 2, "invalid_usage"),
        (["tasks", "list", "--url", "http://127.0.0.1:1"], 2, "no_api_key"),
        (["--profile", "nowhere", "tasks", "list"], 2, "no_such_profile"),
        (["--profile", "prod", "doctor"], 2, "invalid_usage"),
        (["--profile", "prod", "console"], 2, "invalid_usage"),
        (["--profile", "prod", "keys", "renew-admin"], 2, "invalid_usage"),
        (["--profile", "prod", "secrets", "reseal"], 2, "invalid_usage"),
        (["--profile", "prod", "logout"], 2, "invalid_usage"),
        (["--profile", "local", "secrets", "reseal"], 1, "database_unavailable"),
        (["keys", "list"], 1, "database_unavailable"),
        (["keys", "list", "--url", ""], 2, "invalid_url"),
        (["agents", "list"], 1, "database_unavailable"),
        (["agents", "publish", "no_such_module"], 2, None),
        (["members", "set-password", "a@example.com"], 2, "no_password"),
        (["login", "127.0.0.1:1"], 2, "no_api_key"),
    ],
)
def test_a_failure_is_one_json_object_for_programs(
    environ: dict[str, str], words: list[str], exit_code: int, code: str | None, tmp_path: Path
) -> None:
    failed = call(environ | {"RUNYARD_DATABASE_URL": f"sqlite:///{tmp_path}/none/x.db"}, *words, "--json")
    assert failed.returncode == exit_code, failed.stderr
    assert failed.stdout == ""
    error = json.loads(failed.stderr)["error"]
    assert error["exit_code"] == exit_code
    assert code in (None, error["code"])
    assert error["message"]


def test_a_command_that_acts_on_this_machine_alone_refuses_a_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUNYARD_PROFILE", "local")  # `--profile` sets it
    local_only = [path for path, command in commands().items() if not has_url(command)]
    assert {("up",), ("worker",), ("migrate",), ("doctor",), ("keys", "renew-admin")} <= set(local_only)
    for path in local_only:
        refused = CliRunner().invoke(app, ["--profile", "prod", *path])
        assert refused.exit_code == 2, path
        assert refused.stderr.startswith(f"runyard: `runyard {' '.join(path)}` takes no --profile; it "), path
        assert CliRunner().invoke(app, ["--profile", "prod", *path, "--help"]).exit_code == 0, path


def has_url(command: Any) -> bool:
    return any("--url" in parameter.opts for parameter in command.params)


def test_a_setting_that_does_not_exist_is_a_json_failure_too(environ: dict[str, str]) -> None:
    failed = call(environ | {"RUNYARD_PROT": "1"}, "tasks", "list", "--json")
    assert (failed.returncode, json.loads(failed.stderr)["error"]["code"]) == (2, "invalid_setting")


def test_variables_of_clients_are_settings_of_nothing(environ: dict[str, str]) -> None:
    ours = {"RUNYARD_URL": "https://runs.example.com", "RUNYARD_API_KEY": "k", "RUNYARD_PROFILE": "local"}
    found = json.loads(call(environ | ours, "doctor", "--json").stdout)
    assert next(line for line in found if line["part"] == "settings")["verdict"] == "ok"
