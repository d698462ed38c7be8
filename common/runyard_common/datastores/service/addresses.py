"""Whether a connection string can lead anywhere: judged when a datastore is made, not at the first question.

What a name resolves to, and whether a server listens there, is judged at each query.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from runyard_common.datastores.rules import check_tls
from runyard_common.outbound import OutboundPolicy
from runyard_common.outbound.addresses import is_hostname, is_numeric, literal
from runyard_common.outbound.own_servers import check_own_literal
from runyard_common.values.errors import InvalidRequest

FIELD: Final = "metadata.connectionString"
_PORTS: Final = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mariadb": 3306}
_FILES: Final = "sqlite"


def check_connection(
    connection: str | None, policy: OutboundPolicy | None = None, folder: Path | None = None
) -> None:
    """Refuse what no query could reach: `InvalidRequest` invalid_datastore, `UrlRefused` for what `policy` refuses.

    `folder` is where the organisation's SQLite files lie; without it they may be put there later.
    """
    if not connection:
        raise _invalid("A database needs a connection string")
    try:
        url = make_url(connection)
    except (ArgumentError, ValueError):
        raise _invalid("The connection string cannot be read") from None
    if url.drivername == _FILES:
        _check_file(url, folder)
        return
    if url.drivername not in _PORTS:
        raise _invalid(f"The scheme {url.drivername[:40]!r} is not supported")
    try:
        check_tls(connection)
    except ValueError as error:
        raise InvalidRequest(
            f"The connection string is not understood: {error}.", code="invalid_datastore", field=FIELD
        ) from None
    _check_server(url, policy)


def _check_server(url: URL, policy: OutboundPolicy | None) -> None:
    host = (url.host or "").lower().strip("[]")
    if not host or host.startswith("/"):
        raise _invalid("The connection string names no host")
    if literal(host) is None and (not is_hostname(host) or is_numeric(host)):
        raise _invalid(f"{host[:255]!r} is no host name")
    port = _PORTS[url.drivername] if url.port is None else url.port
    if not 0 < port < 65536:
        raise _invalid("A port is a number from 1 to 65535")
    if policy is None:
        return
    from runyard_common.outbound.urls import Target, check_address

    if policy.own is not None:
        check_own_literal(policy.own, host, port, FIELD)
    target = Target(url.drivername, host, port)
    if target.address is not None:
        check_address(target.address, target, policy, field=FIELD)


def _check_file(url: URL, folder: Path | None) -> None:
    """A SQLite file has a name inside its organisation's folder."""
    name = url.database or ""
    path = PurePosixPath(name)
    if url.host or not name.strip("./") or name == ":memory:" or path.is_absolute() or ".." in path.parts:
        raise _invalid("A SQLite datastore names a file in its organisation's folder, as sqlite:///sales.db")
    if folder is not None and not (folder / path).is_file():
        raise InvalidRequest(
            f"There is no file {name[:255]!r} in the organisation's folder of SQLite datastores, datastores/ and the "
            "organisation's id in the server's home. Put it there first.",
            code="invalid_datastore",
            field=FIELD,
        )


def _invalid(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"{what}; write postgresql://user:password@host:5432/name, mysql://…, mariadb://… or sqlite:///file.",
        code="invalid_datastore",
        field=FIELD,
    )
