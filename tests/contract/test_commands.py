"""`runyard run` and `runyard tasks` against a running installation: what they say, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runyard_launch.cli.main import app
from runyard_launch.supervisor.process import free_port
from tests.contract.live import Live

Command = Callable[..., Result]
ORDER = '{"lines": [{"amount": 12.5}, {"amount": 7.5}]}'


@pytest.fixture
def runyard(live: Live, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Gives the command of these words, in the environment of the installation."""
    monkeypatch.setenv("RUNYARD_HOME", str(live.home))
    monkeypatch.setenv("RUNYARD_PORT", str(live.ports["api-1"]))
    return lambda *words, **more: CliRunner().invoke(app, list(words), **more)


def _documents(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_run_that_is_not_followed_leaves_its_id_on_standard_output(runyard: Command) -> None:
    submitted = runyard("run", "echo", "hello")
    assert submitted.exit_code == 0
    followed = runyard("tasks", "follow", submitted.stdout.strip())
    assert followed.exit_code == 0
    assert json.loads(followed.stdout) == {"message": "hello", "args": {}}
    assert "completed" in followed.stderr


def test_a_followed_run_is_written_an_event_a_line_to_programs(runyard: Command, tmp_path: Path) -> None:
    arguments, note = tmp_path / "args.json", tmp_path / "note.txt"
    arguments.write_text('{"n": 1}')
    note.write_text("a note")
    words = ("--file", str(note), "-o", 'metadata={"from": "a test"}', "--follow", "--json")
    *events, task = _documents(runyard("run", "@demo/echo", "--args", f"@{arguments}", *words))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events] == ["submit", "claim", "finish"]
    assert (task["status"], task["output"]["args"], task["metadata"]) == (
        "completed",
        {"n": 1},
        {"from": "a test"},
    )
    assert [file["name"] for file in task["input"]["files"]] == ["note.txt"]


def test_the_exit_code_shows_how_a_run_ended(runyard: Command) -> None:
    failed = runyard("run", "failer", "--args", "{}", "--follow")
    assert failed.exit_code == 1
    assert "failed" in failed.stderr
    slow = runyard("run", "sleeper", "--args", '{"seconds": 60}').stdout.strip()
    assert "is stopped" in runyard("tasks", "cancel", slow, "--reason", "enough").stdout
    assert runyard("tasks", "show", slow).exit_code == 3


def test_a_run_that_asks_is_answered_and_decided_from_the_command_line(runyard: Command) -> None:
    asked = runyard("run", "invoice_check", "--args", ORDER, "--follow")
    assert asked.exit_code == 4
    waiting = _documents(runyard("tasks", "inbox", "--json"))[0]
    (task,) = (q["task_id"] for q in waiting if f"runyard tasks answer {q['task_id']}" in asked.stderr)
    assert runyard("tasks", "answer", task, "4711").exit_code == 0
    review = runyard("tasks", "follow", task)
    assert review.exit_code == 4
    assert f"runyard tasks review {task}" in review.stderr
    *events, shown = _documents(runyard("tasks", "follow", task, "--json"))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[-1]["type"], shown["status"]) == ("review", "awaiting_review")
    assert runyard("tasks", "review", task, "approve", "--reason", "seen").exit_code == 0
    assert runyard("tasks", "follow", task).exit_code == 0
    (listed, *_) = _documents(runyard("tasks", "list", "--status", "completed", "--json"))[0]
    assert listed["task_id"] == task


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["run", "no_such_agent", "hi"], 2, "agent_not_found"),
        (["run", "echo", "--args", "{nonsense"], 2, "no JSON"),
        (["run", "echo", "--option", "nonsense"], 2, "NAME=JSON"),
        (["run", "echo", "--key-file", "/nowhere/key"], 2, "/nowhere/key"),
        (["tasks", "show", "01a200be-0000-7000-8000-000000000000"], 2, "no such task"),
        (["tasks", "answer", "01a200be-0000-7000-8000-000000000000", "x"], 2, "task_not_found"),
    ],
)
def test_a_refusal_is_one_sentence(runyard: Command, words: list[str], code: int, expected: str) -> None:
    refused = runyard(*words)
    assert refused.exit_code == code
    assert expected in refused.stderr
    assert "Traceback" not in refused.output


def test_a_server_that_is_not_there_is_named(runyard: Command) -> None:
    unreachable = runyard("tasks", "list", "--url", f"http://127.0.0.1:{free_port()}")
    assert unreachable.exit_code == 5
    assert "runyard up" in unreachable.stderr
