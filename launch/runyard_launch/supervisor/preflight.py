"""What can be known to fail before anything is started."""

from __future__ import annotations

import errno
import socket

from runyard_common.settings import Settings, load
from runyard_common.values.addresses import masked
from runyard_common.values.errors import ConfigurationError
from runyard_launch.problems import SettingsProblem, StartProblem
from runyard_launch.supervisor.process import free_port, listening_socket

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
    """The same with a free port where RUNYARD_PORT is 0; `StartProblem` if the api could not listen there."""
    check_port(settings.host, settings.port)
    return settings.model_copy(update={"port": settings.port or free_port(settings.host)})


def check_port(host: str, port: int) -> None:
    """`StartProblem` if the api could not listen there."""
    try:
        listening_socket(host, port).close()
    except socket.gaierror:
        raise SettingsProblem(f"The host {host} is unknown. Change RUNYARD_HOST.") from None
    except OSError as error:
        raise StartProblem(_port_problem(host, port, error)) from None


def _port_problem(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} on {host} is taken. Stop the program that uses it, "
                "or set RUNYARD_PORT to another (0 takes a free one)."
            )
        case errno.EACCES:
            return f"Port {port} needs rights this user does not have. Set RUNYARD_PORT to one above 1023."
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine. Change RUNYARD_HOST."
    return f"Port {port} on {host} cannot be used ({error.strerror}). Change RUNYARD_HOST or RUNYARD_PORT."


def check_database(settings: Settings) -> None:
    """`StartProblem` if the database does not answer."""
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
        raise StartProblem(f"The database does not answer ({reason}). Check RUNYARD_DATABASE_URL.") from None
