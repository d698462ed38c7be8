"""`runyard` builds the command that was named and no other: it is the same as among all of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import typer

from runyard_launch.cli import main
from runyard_launch.cli.terminal import COMPLETE

WHOLE = typer.main.get_command(main.app)


def described(command: Any) -> dict[str, Any]:
    """What a person and a shell can see of a command, and of those in it."""
    parameters = [
        (one.name, one.opts, one.secondary_opts, one.required, one.default, getattr(one, "help", None))
        for one in command.params
    ]
    inner = {name: described(one) for name, one in getattr(command, "commands", {}).items()}
    return {"name": command.name, "help": command.help, "end": command.epilog, "has": parameters, "in": inner}


def built(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The group that `runyard` with these words calls."""
    called: list[typer.Typer] = []

    def call(app: typer.Typer) -> None:
        called.append(app)

    with monkeypatch.context() as patched:
        patched.setattr(typer.Typer, "__call__", call)
        patched.setattr(sys, "argv", ["runyard", *words])
        main.main()
    return typer.main.get_command(called[0])


@pytest.mark.parametrize("name", WHOLE.commands)  # type: ignore[attr-defined]
def test_the_named_command_is_built_by_itself_and_is_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    part = described(built(monkeypatch, name))
    whole = described(WHOLE)
    assert part == whole | {"in": {name: whole["in"][name]}}


@pytest.mark.parametrize(
    "words", [(), ("--help",), ("--profile", "x", "tasks", "list"), ("no-such-command",)]
)
def test_what_names_none_at_first_is_answered_by_all(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    assert described(built(monkeypatch, *words)) == described(WHOLE)


def test_a_shell_that_completes_sees_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPLETE, "complete_bash")
    assert described(built(monkeypatch, "tasks")) == described(WHOLE)
