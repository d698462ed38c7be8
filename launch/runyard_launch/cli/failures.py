"""Failures of commands, all reported in one way.

A failure is one sentence on standard error. With `--json` it is one JSON object there instead, and nothing else:
`{"error": {"code": …, "message": …, "exit_code": …}}`, with `field` and other details where they are known.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import typer
from typer._completion_classes import completion_init
from typer.core import TyperGroup

from runyard_launch.problems import CommandFailed, Outcome, StartProblem

#: Set by the script of a shell that asks for completions.
COMPLETE = "_RUNYARD_COMPLETE"
#: The reader of the output went away: no failure that a person wants to hear of.
_BROKEN_PIPE = "broken_pipe"


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named; Ctrl-C and a closed pipe are failures with a code like all others."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise CommandFailed("Interrupted.", "interrupted", Outcome.INTERRUPTED) from None
        except BrokenPipeError:
            _discard_output()
            raise CommandFailed("The reader of the output has gone.", _BROKEN_PIPE) from None
        except EOFError:
            raise CommandFailed(
                "Standard input has ended before the answer came.", "no_input", Outcome.REFUSED
            ) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; what it raises becomes a sentence or a JSON object on standard error."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = wants_json(words)
        if COMPLETE in os.environ:
            completion_init()  # which shells there are
        try:
            done = super().main(
                words, "runyard", complete_var, standalone_mode and not as_json, windows_expand_args, **extra
            )
        except (Exception, typer.Abort) as error:
            problem = _as_failure(error, as_json)
            if problem is None:
                raise
            if as_json or problem.code != _BROKEN_PIPE:
                report(
                    str(problem),
                    problem.code,
                    problem.exit_code,
                    as_json,
                    **getattr(problem, "details", {}),
                )
            sys.exit(problem.exit_code)
        if standalone_mode and as_json:
            sys.exit(done if isinstance(done, int) else 0)
        return done


def _as_failure(error: BaseException, as_json: bool) -> CommandFailed | StartProblem | None:
    """What to report of an exception; None for a defect, of which a person is shown where it is."""
    if isinstance(error, CommandFailed | StartProblem):
        return error
    if isinstance(error, typer.Abort):
        return CommandFailed("Aborted.", "aborted")
    if isinstance(error, OSError) and error.strerror:  # a file of the home, of the profiles, of an option
        where = f"{error.filename}: " if error.filename else ""
        return CommandFailed(f"{where}{error.strerror}.", "system_error")
    if not as_json:
        return None
    if hasattr(error, "format_message"):  # what Typer refuses
        field = getattr(getattr(error, "param", None), "name", None)
        code = getattr(error, "exit_code", Outcome.REFUSED)
        return CommandFailed(error.format_message(), "invalid_usage", code, field=field)
    return CommandFailed(
        f"This is a defect of Runyard ({type(error).__name__}: {error}). The same command without --json shows "
        "where it is.",
        "internal_error",
    )


def _discard_output() -> None:
    """Let what is left of the output go nowhere: the interpreter writes it when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def wants_json(words: Sequence[str]) -> bool:
    """Whether these arguments ask for JSON. What follows `--` are values, not options."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def report(message: str, code: str, exit_code: int, as_json: bool, **details: Any) -> None:
    """Write a failure to standard error."""
    if not as_json:
        typer.echo(f"runyard: {message}", err=True)
        return
    error = {"code": code, "message": message, "exit_code": exit_code} | details
    typer.echo(json.dumps({"error": error}, ensure_ascii=False, default=str), err=True)
