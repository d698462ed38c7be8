"""What can keep a command from its work, as one sentence for the person at the terminal and a code for programs."""

from __future__ import annotations

from typing import Any


class StartProblem(Exception):
    """Runyard cannot start; the message says why and what to do."""

    exit_code = 1
    code = "cannot_start"


class SettingsProblem(StartProblem):
    """A setting cannot work; trying again without changing it is useless."""

    exit_code = 2
    code = "invalid_setting"


class CommandFailed(Exception):
    """A command could not do its work.

    `code` is stable; `details` are further fields of the JSON form, such as the `field` that is wrong.
    """

    def __init__(self, message: str, code: str, exit_code: int = 1, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code
        self.details = {name: value for name, value in details.items() if value is not None}
