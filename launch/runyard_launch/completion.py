"""Shell completion: the script for the caller's shell, shown or installed."""

from __future__ import annotations

import os
from pathlib import Path

import typer
from typer import _completion_shared as typers

from runyard_launch.group import COMPLETE
from runyard_launch.problems import CommandFailed

_PROGRAM = "runyard"
_VARIABLE = COMPLETE
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def script() -> str:
    """The script that makes this shell complete `runyard`."""
    names = {"prog_name": _PROGRAM, "complete_var": _VARIABLE, "shell": _shell()}
    return str(typers.get_completion_script(**names))


def install() -> None:
    """Put the script where this shell reads it, once, and say where."""
    shell, path = typers.install(_shell(), _PROGRAM, _VARIABLE)
    typer.echo(f"Completion for {shell} is in {path}. It works in every shell you open from now on.")


def _shell() -> str:
    """The shell this command was called from; where none can be found (a script, a container), that of SHELL."""
    named = Path(os.environ.get("SHELL", "")).name
    found = typers._get_shell_name() or named
    for shell in (found, named):
        if shell in _SHELLS:
            return shell
    raise CommandFailed(
        "Which shell this is cannot be found out. Name it: SHELL=/bin/bash runyard --show-completion",
        "unknown_shell",
        2,
    )
