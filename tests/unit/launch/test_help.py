"""What a newcomer reads: the help of every command, and the commands that pages name in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from runyard_launch.cli.main import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = [(page.name, found) for page in PAGES for found in re.findall(r"`(runyard [^`]+)`", page.read_text())]
#: Their options are those of the program that they become.
PASSED_ON = {"worker", "migrate"}
#: Each is named in the help of its command by one that works.
EXAMPLES = {
    "dev",
    "init",
    "doctor",
    "run",
    "tasks answer",
    "tasks review",
    "agents publish",
    "backup",
    "restore",
    "keys create",
    "keys rotate-secret",
    "members invite",
    "orgs export",
    "orgs erase",
    "users export",
    "users erase",
    "login",
    "tasks watch",
    "tasks logs",
    "schedules create",
    "webhooks create",
    "limits set",
    "usage",
}


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command and group, by its words."""
    command = command or typer.main.get_command(app)
    yield " ".join(path), command
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), (*path, name))


COMMANDS = dict(commands())


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_option_and_argument_is_described(words: str) -> None:
    command = COMMANDS[words]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{words}: {parameter.name}"
        assert len(parameter.help) > len("Which one."), f"{words}: {parameter.name}: {parameter.help}"


@pytest.mark.parametrize("words", COMMANDS)
def test_a_summary_in_a_list_is_a_whole_sentence(words: str) -> None:
    shown = CliRunner().invoke(app, [*words.split(), "--help"], terminal_width=80).stdout
    _, found, listed = shown.partition("\nCommands:\n")
    for line in listed.splitlines() if found else ():
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("words", sorted(EXAMPLES))
def test_the_examples_of_a_help_are_commands_that_there_are(words: str) -> None:
    examples = re.findall(r"^ +(runyard .+)$", COMMANDS[words].epilog or "", re.MULTILINE)
    assert examples, words
    for example in examples:
        assert example.startswith(f"runyard {words}")
        check(example)


@pytest.mark.parametrize(("page", "named"), NAMED)
def test_a_command_that_a_page_names_is_one(page: str, named: str) -> None:
    check(named)


def check(text: str) -> None:
    """AssertionError unless the words are a command, and its options are its own."""
    command, path = COMMANDS[""], []
    words = text.split()[1:]
    while hasattr(command, "list_commands") and words:
        word = words.pop(0)
        if word.startswith("-"):
            given = word.strip(",").partition("=")[0]
            assert given in options(command) | {"--help"}, text
            if given == "--profile":
                words.pop(0)
            continue
        names = [word.strip(",")]
        while word.endswith(",") and words:
            word = words.pop(0)
            names.append(word.strip(","))
        for name in names:
            assert name in command.list_commands(None), f"{text}: there is no {name!r}"
        path.append(names[0])
        command = command.get_command(None, names[0])
    given_options = re.findall(
        r"(?<![\w-])--?[a-z][\w-]*", re.sub(r"'[^']*'|\"[^\"]*\"", "", " ".join(words))
    )
    if path and path[0] not in PASSED_ON:
        assert set(given_options) <= options(command) | {"--help"}, text
