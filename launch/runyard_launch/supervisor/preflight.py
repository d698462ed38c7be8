"""What can be known to fail before anything is started."""

from __future__ import annotations

from runyard_common.environment import load
from runyard_common.settings import Settings
from runyard_common.values.addresses import masked
from runyard_common.values.errors import ConfigurationError
from runyard_launch.problems import SettingsProblem, StartFailed
from runyard_launch.supervisor.process import free_port

_CONNECT_SECONDS = 5


def read_settings() -> Settings:
    """This process's settings; `SettingsProblem` names one that cannot work."""
    try:
        return load()
    except ConfigurationError as error:
        raise SettingsProblem(error.message) from None


def check_start(settings: Settings) -> None:
    """`SettingsProblem` for settings with which one of the processes would not start."""
    from runyard_common.start_checks import problems

    for problem in problems(settings):
        raise SettingsProblem(problem.message)


def with_port(settings: Settings) -> Settings:
    """The same with a free port where RUNYARD_PORT is 0; `SettingsProblem` if the api could not listen there."""
    from runyard_common.start_checks import check_address

    try:
        check_address(settings)
    except ConfigurationError as error:
        raise SettingsProblem(error.message) from None
    return settings.model_copy(update={"port": settings.port or free_port(settings.host)})


def check_database(settings: Settings) -> None:
    """`StartFailed` if the database does not answer."""
    if not settings.database_url:
        return  # the file in the home
    from runyard_common.database.start_checks import check_database

    try:
        check_database(settings)
    except ConfigurationError as error:
        raise SettingsProblem(error.message) from None
    if settings.database.startswith("sqlite"):
        return
    import psycopg

    from runyard_common.database.postgres_urls import libpq_url

    try:
        psycopg.connect(libpq_url(settings.database), connect_timeout=_CONNECT_SECONDS).close()
    except psycopg.Error as error:
        reason = masked(" ".join(str(error).split()))
        raise StartFailed(f"The database does not answer ({reason}). Check RUNYARD_DATABASE_URL.") from None
