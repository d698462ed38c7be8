"""The `runyard` command, also as `python -m runyard`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
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
    if (other := _another_version()) is not None:
        _refuse("versions_differ", other, "--json" in words)
    try:
        # By name: this package is what authors install, and brings no server code with it.
        command = import_module("runyard_launch.cli.main")
    except ModuleNotFoundError as missing:
        if not extras.of_another(missing):
            raise
        _refuse("missing_extra", extras.advice("The command", "cli"), "--json" in words)
    command.main()


def _another_version() -> str | None:
    """The sentence for a server of another version: pip upgrades `runyard` alone where no extra is named."""
    try:
        own, server = version("runyard"), version("runyard-server")
    except PackageNotFoundError:  # there is none, or the folders of a checkout are on the path
        return None
    if own == server:
        return None
    return (
        f"runyard is {own} and runyard-server {server}, and they must be of one version: "
        f'pip install "runyard[server]=={own}".'
    )


def _refuse(code: str, message: str, as_json: bool) -> NoReturn:
    error = {"code": code, "message": message, "exit_code": _REFUSED}
    text = json.dumps({"error": error}, ensure_ascii=False) if as_json else f"runyard: {message}"
    sys.stderr.write(f"{text}\n")
    sys.exit(_REFUSED)


if __name__ == "__main__":
    main()
