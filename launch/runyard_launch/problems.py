"""What can keep a command from its work, as one sentence for the person at the terminal and a code for programs.

The exit code follows from what happened, not from how a command reaches the installation: the same refusal has the
same code by the database and over HTTP (docs/decisions/0023-exit-codes.md).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

_SERVER_FAILS = 500  # HTTP statuses from here on


class Outcome(IntEnum):
    """The exit codes."""

    COMPLETED = 0
    FAILED = 1  # what was asked for was tried and failed: the run, the server, the database
    REFUSED = 2  # nothing was tried: wrong usage or settings, not allowed, not there
    STOPPED = 3
    WAITING = 4
    UNREACHABLE = 5
    INTERRUPTED = 130  # as shells have it


def of_status(status: int) -> Outcome:
    """The exit code for a refusal of this HTTP status, which refusals of the services have, too."""
    return Outcome.FAILED if status >= _SERVER_FAILS else Outcome.REFUSED


class StartProblem(Exception):
    """Runyard does not start, and nothing was begun; the message has the reason and the remedy."""

    exit_code: int = Outcome.REFUSED
    code = "cannot_start"


class StartFailed(StartProblem):
    """What a start needs was tried and failed: a server that does not answer, a program that does not run."""

    exit_code: int = Outcome.FAILED


class SettingsProblem(StartProblem):
    """A setting cannot work; trying again without changing it is useless."""

    code = "invalid_setting"


class CommandFailed(Exception):
    """A command could not do its work.

    `code` is stable; `details` are further fields of the JSON form, such as the `field` that is wrong.
    """

    def __init__(self, message: str, code: str, exit_code: int = Outcome.FAILED, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = int(exit_code)
        self.details = {name: value for name, value in details.items() if value is not None}


def refused(message: str, code: str, status: int, **details: Any) -> CommandFailed:
    """The failure of a command for what a server, or a service on this machine, has refused with this HTTP status."""
    return CommandFailed(f"{message} ({code})", code, of_status(status), status=status, **details)
