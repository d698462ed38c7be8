"""Secrets of the installation that are files in its home: made when there are none, shared by its processes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError

SECRET_KEY: Final = "secret.key"  # noqa: S105 - the name of a file


def secret_key(settings: Settings) -> str:
    """The key that seals stored secrets: the setting, or the one in the home, made when there is none."""
    return settings.secret_key or kept(settings.home / SECRET_KEY, new_key())


def kept(file: Path, fresh: str) -> str:
    """The secret in `file`; of several processes that find none, one writes `fresh` and all read the same.

    Raises `ConfigurationError` for a file that is empty.
    """
    text = existing(file)
    if text is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, fresh, replace=False)
        text = existing(file)
    if text is None:
        raise ConfigurationError(f"{file} was removed while it was made: start again.")
    return text


def check_secret_key(settings: Settings) -> None:
    """Refuse a key that cannot seal, without making one: `ConfigurationError`."""
    key = settings.secret_key or existing(settings.home / SECRET_KEY)
    if key is not None:
        Sealer(key)


def existing(file: Path) -> str | None:
    """The secret in `file`; None where there is no file. Raises `ConfigurationError` for a file without a text."""
    try:
        text = file.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read ({error.strerror or error}): give it to this user."
        ) from None
    if not text:
        raise ConfigurationError(f"{file} is empty or no text; remove it to have a new one made.")
    return text


def write(file: Path, text: str, replace: bool) -> None:
    """Put a file of mode 0600 in place in one step; without `replace` the first of several writers wins."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            temporary.replace(file)
        else:
            try:
                file.hardlink_to(temporary)
            except FileExistsError:
                pass
    finally:
        temporary.unlink(missing_ok=True)
