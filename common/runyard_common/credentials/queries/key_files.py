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
#: Keys that a change has replaced: backups from before need them.
OLD_SECRET_KEYS: Final = "secret.key.old"  # noqa: S105 - the name of a file
JWT_SECRET: Final = "jwt.secret"  # noqa: S105 - the name of a file
#: Characters of an HS256 secret: as many as its hash has bytes (RFC 7518, section 3.2).
_SHORTEST_JWT_SECRET: Final = 32


def secret_key(settings: Settings) -> str:
    """The key that seals stored secrets: the setting, or the one in the home, made when there is none."""
    return settings.secret_key or kept(settings.home / SECRET_KEY, new_key())


def sealer(settings: Settings) -> Sealer:
    """Seals with that key. One in the home may change while the process runs: the file is looked at again."""
    if settings.secret_key:
        return Sealer(settings.secret_key)
    file = settings.home / SECRET_KEY
    watched = _Watched(file)
    return Sealer(kept(file, new_key()), watched)


class _Watched:
    """The text of a file as it is now, read when the file is another one; None where it is away or broken."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: tuple[tuple[int, int], str | None] | None = None

    def __call__(self) -> str | None:
        try:
            state = self._file.stat()
            which = (state.st_ino, state.st_mtime_ns)
            last = self._last
            if last is None or last[0] != which:
                last = self._last = which, existing(self._file)
        except (OSError, ConfigurationError):
            return None
        return last[1]


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


def check_jwt_secret(settings: Settings) -> None:
    """Refuse a secret of JWTs that is too short, without making one: `ConfigurationError`."""
    secret = settings.jwt_secret or existing(settings.home / JWT_SECRET)
    if secret is not None:
        check_jwt_length(secret, settings)


def check_jwt_length(secret: str, settings: Settings) -> None:
    """Refuse this secret if it is too short: `ConfigurationError`."""
    if len(secret) < _SHORTEST_JWT_SECRET:
        source = "RUNYARD_JWT_SECRET" if settings.jwt_secret else str(settings.home / JWT_SECRET)
        raise ConfigurationError(
            f"{source} needs {_SHORTEST_JWT_SECRET} characters or more; leave the setting empty and remove the file "
            "in the home to have one made.",
            field="RUNYARD_JWT_SECRET",
        )


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
        _sync(file.parent)  # what a new key has sealed must not outlast the key
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
