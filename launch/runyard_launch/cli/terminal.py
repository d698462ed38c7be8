"""What commands write (tables for people, JSON for programs), the secrets that they ask for, and how they fail.

A failure is one sentence on standard error. With `--json` it is one JSON object there instead, and nothing else:
`{"error": {"code": …, "message": …, "exit_code": …}}`, with `field` and other details where they are known.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from typer._completion_classes import completion_init
from typer.core import TyperGroup

from runyard import extras
from runyard_launch.cli.profiles import LOCAL
from runyard_launch.problems import CommandFailed, Outcome, StartProblem

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs; failures, too.")]
#: Set by the script of a shell that asks for completions.
COMPLETE = "_RUNYARD_COMPLETE"
#: The reader of the output went away: no failure that a person wants to hear of.
_BROKEN_PIPE = "broken_pipe"
_OF_PROFILES = ("login", "logout", "profiles")
_WIDE = 220  # without a terminal no line is cut or folded

Row = dict[str, Any]  # of a list, as its JSON shows it


def instant(at: float | None) -> str | None:
    """A time as lists show it: RFC 3339 in UTC, to the second."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def examples(*commands: str) -> str:
    """The end of a command's help: commands as they are typed, a line each."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], as_json: bool) -> None:
    """Write rows. `columns` names the fields a table shows, with their headings; JSON has every field."""
    if as_json:
        typer.echo(json.dumps([dict(row) for row in rows], ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns.values(), box=None)
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in columns))  # brackets in them are no markup
    Console(width=None if Console().is_terminal else _WIDE).print(table)


def done(sentence: str, fields: Mapping[str, Any], as_json: bool) -> None:
    """Write what a command did: a sentence for people, fields for programs."""
    typer.echo(json.dumps(dict(fields), ensure_ascii=False, default=str) if as_json else sentence)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "—"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def read_secret(prompt: str, what: str, piped: str, *, twice: bool = False, lines: bool = False) -> str:
    """The text, without blanks around it where it is a key. Nothing is written but to the terminal.

    `what` names the field, `piped` is the command that gives it without a terminal. `twice`: a person types it
    again. `lines`: it may have several, as a certificate has. Errors: `CommandFailed` no_<what> where none came,
    <what>s_differ.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        text = _typed(prompt)
        if text and twice and _typed(f"{prompt}, again") != text:
            raise CommandFailed(
                "The two entries differ. Nothing is changed: run the command again.",
                f"{what}s_differ",
                Outcome.REFUSED,
                field=what,
            )
    else:
        text = _piped(lines)
    if not text.strip():
        raise CommandFailed(
            f"No {what.replace('_', ' ')} was given. Run this in a terminal, or pipe it in: {piped}",
            f"no_{what}",
            Outcome.REFUSED,
            field=what,
        )
    return text


def _typed(prompt: str) -> str:
    from getpass import getpass

    try:
        return getpass(f"{prompt}: ")
    except EOFError:
        return ""


def _piped(lines: bool) -> str:
    """Standard input without the end of its last line, or its first line; nothing where it is closed, or no text."""
    if sys.stdin is None:
        return ""
    try:
        if lines:
            return sys.stdin.read().removesuffix("\n").removesuffix("\r")
        return sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        return ""


class Commands(TyperGroup):
    """The group of all commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is named. Refuses `--profile` for one that acts on this machine alone."""
        if ctx.params.get("profile") not in (None, "", LOCAL) and "--help" not in args:
            _refuse_profile(self, list(args))
        return super().resolve_command(ctx, args)

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


def _refuse_profile(command: Any, words: list[str]) -> None:
    path = ["runyard"]
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    if isinstance(command, TyperGroup) or any("--url" in parameter.opts for parameter in command.params):
        return
    if path[1] in _OF_PROFILES:
        why = "names its profile as an argument (see its --help)"
    else:
        why = "acts on this machine's installation alone: run it on the server's own machine, or leave --profile out"
    raise CommandFailed(
        f"`{' '.join(path)}` takes no --profile; it {why}.", "invalid_usage", Outcome.REFUSED, field="profile"
    )


def _as_failure(error: BaseException, as_json: bool) -> CommandFailed | StartProblem | None:
    """What to report of an exception; None for a defect, of which a person is shown where it is."""
    if isinstance(error, CommandFailed | StartProblem):
        return error
    if isinstance(error, typer.Abort):
        return CommandFailed("Aborted.", "aborted")
    if isinstance(error, ModuleNotFoundError) and extras.of_another(error):
        return _missing_server()
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


def need_server() -> None:
    """Refuse a command that starts a part of a server where only the client is installed."""
    if not extras.installed("sqlalchemy"):
        raise _missing_server()


def _missing_server() -> CommandFailed:
    advice = extras.advice("This command acts on this machine's installation, which", "server")
    return CommandFailed(
        f"{advice} For a server elsewhere, give --url or RUNYARD_URL.", "missing_extra", Outcome.REFUSED
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
