"""The `runyard` command, also as `python -m runyard`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import NoReturn

import runyard
from runyard import extras

_REFUSED = 2  # see docs/decisions/0023-exit-codes.md


def main() -> None:
    """Run the command of the arguments; without the extra `cli`, say how to install it."""
    words = sys.argv[1:]
    if words == ["--version"]:
        sys.stdout.write(f"runyard {runyard.__version__}\n")
        return
    try:
        # By name: this package is what authors install, and brings no server code with it.
        command = import_module("runyard_launch.cli.main")
    except ModuleNotFoundError as missing:
        if not extras.of_another(missing):
            raise
        _refuse(extras.advice("The command", "cli"), "--json" in words)
    command.main()


def _refuse(message: str, as_json: bool) -> NoReturn:
    error = {"code": "missing_extra", "message": message, "exit_code": _REFUSED}
    text = json.dumps({"error": error}, ensure_ascii=False) if as_json else f"runyard: {message}"
    sys.stderr.write(f"{text}\n")
    sys.exit(_REFUSED)


if __name__ == "__main__":
    main()
