"""Secrets of the installation that are files in its home: made when there are none, shared by its processes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from common.domain.errors import ConfigurationError
from common.domain.sealing import new_key
from common.settings import Settings

SECRET_KEY: Final = "secret.key"  # noqa: S105 - the name of a file


def secret_key(settings: Settings) -> str:
    """The key that seals stored secrets: the setting, or the one in the home, made when there is none."""
    return settings.secret_key or kept(settings.home / SECRET_KEY, new_key())


def kept(file: Path, fresh: str) -> str:
    """The secret in `file`; of several processes that find none, one writes `fresh` and all read the same.

    Raises `ConfigurationError` for a file that is empty.
    """
    text = _read(file)
    if text is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, fresh, replace=False)
        text = _read(file)
    if text is None:
        raise ConfigurationError(f"{file} is empty; remove it to have a new one made.")
    return text


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except FileNotFoundError:
        return None


def write(file: Path, text: str, replace: bool) -> None:
    """Put a file of mode 0600 in place in one step; without `replace` the first of several writers wins."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    aside = Path(name)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            aside.replace(file)
        else:
            try:
                file.hardlink_to(aside)
            except FileExistsError:
                pass
    finally:
        aside.unlink(missing_ok=True)
