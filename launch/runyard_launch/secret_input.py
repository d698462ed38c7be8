"""Keys and passwords that commands ask for: typed without showing them, or read from standard input."""

from __future__ import annotations

import sys

from runyard_launch.problems import CommandFailed, Outcome


def read(prompt: str, what: str, piped: str, *, twice: bool = False) -> str:
    """The text, without blanks around it where it is a key. Nothing is written but to the terminal.

    `what` names the field, `piped` is the command that gives it without a terminal. `twice`: a person types it
    again. Errors: `CommandFailed` no_<what> where none came, <what>s_differ.
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
        text = _piped()
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


def _piped() -> str:
    """The first line of standard input; nothing where it is closed, or no text."""
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        return ""
