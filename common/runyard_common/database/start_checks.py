"""What a process checks of its settings when it starts: the part that every process has, migrations too.

`runyard_common.start_checks` has the whole list. `runyard doctor` reports what the same functions refuse, so that it
calls nothing good that a process refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from runyard import extras
from runyard_common.credentials.queries import key_files
from runyard_common.settings import Settings
from runyard_common.values.addresses import masked
from runyard_common.values.errors import ConfigurationError


class Process(StrEnum):
    """The processes of an installation."""

    API = "api"
    WORKER = "worker"
    SCHEDULER = "scheduler"
    MIGRATE = "migrate"


EVERY: Final = frozenset(Process)


@dataclass(frozen=True, slots=True)
class StartCheck:
    """One check: `refuse` raises `ConfigurationError` for settings with which none of `processes` starts."""

    refuse: Callable[[Settings], None]
    processes: frozenset[Process] = EVERY


def run(checks: Iterable[StartCheck], settings: Settings, process: Process) -> None:
    """Raise the first `ConfigurationError` that concerns this process."""
    for problem in problems((check for check in checks if process in check.processes), settings):
        raise problem


def problems(checks: Iterable[StartCheck], settings: Settings) -> Iterator[ConfigurationError]:
    """What each check refuses, in order."""
    for check in checks:
        try:
            check.refuse(settings)
        except ConfigurationError as problem:
            yield problem


def check_database(settings: Settings) -> None:
    """Refuse a database URL that the driver cannot read, and a SQLite file in a folder that is not there."""
    if not settings.database_url:
        return  # the file in the home
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(settings.database)
    except (ArgumentError, ValueError) as error:
        raise _unreadable(error) from None
    if url.get_backend_name() == "postgresql":
        _check_postgres(settings)
        return
    folder = Path(url.database or "").parent
    if url.database and not folder.is_dir():
        raise ConfigurationError(
            f"The folder of the database {url.database} does not exist. Create it, or change RUNYARD_DATABASE_URL.",
            field="RUNYARD_DATABASE_URL",
        )


def _check_postgres(settings: Settings) -> None:
    if not extras.installed("psycopg"):
        raise ConfigurationError(
            extras.advice("RUNYARD_DATABASE_URL: a PostgreSQL database", "postgres"),
            field="RUNYARD_DATABASE_URL",
        )
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from runyard_common.database.postgres_urls import libpq_url

    try:
        conninfo_to_dict(libpq_url(settings.database))
    except (ValueError, psycopg.ProgrammingError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> ConfigurationError:
    reason = masked(" ".join(str(error).split()))
    return ConfigurationError(
        f"RUNYARD_DATABASE_URL cannot be read ({reason}): write postgresql://user@host:5432/name.",
        field="RUNYARD_DATABASE_URL",
    )


def _check_home(settings: Settings) -> None:
    """A home that is there only has to be written to where something has to be made in it."""
    home = settings.home
    if home.is_dir():
        made = ((settings.jwt_secret, "jwt.secret"), (settings.secret_key, key_files.SECRET_KEY))
        needed = any(not given and not (home / name).exists() for given, name in made)
        good = not needed or os.access(home, os.W_OK | os.X_OK)
    else:
        above = next(path for path in home.absolute().parents if path.exists())
        good = not home.exists() and above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    if not good:
        raise ConfigurationError(
            f"RUNYARD_HOME {home} cannot be written by this user. Make it a folder of this user, or name another.",
            field="RUNYARD_HOME",
        )


#: What every process needs.
CHECKS: Final = (
    StartCheck(_check_home),
    StartCheck(check_database),
    StartCheck(key_files.check_secret_key),
)
