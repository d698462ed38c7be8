"""PostgreSQL: a read-only transaction on a connection of its own, rows streamed up to the cap."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import chain
from typing import Any, Final, cast

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL

from workers.agent.sql.placeholders import for_driver
from workers.agent.sql.postgres_values import read_as_text
from workers.agent.sql.results import Caps, QueryFailed, Rows, take

#: Connection options a caller may set; others name files of this server, or other hosts.
_ALLOWED: Final = frozenset({"sslmode", "application_name", "channel_binding"})


def asker(url: URL, address: str) -> Callable[[str, Sequence[Any], Caps], Rows]:
    """Runs statements on the database of `url`, connecting to `address`."""
    options = {name: str(value) for name, value in url.query.items() if name in _ALLOWED}

    def ask(sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
        try:
            with closing(_connect(url, address, options, caps)) as connection:
                return _ask(connection, sql, parameters, caps)
        except (psycopg.Error, ValueError, OverflowError, TypeError) as error:
            raise QueryFailed(str(error).strip() or type(error).__name__) from error

    return ask


def _connect(url: URL, address: str, options: dict[str, str], caps: Caps) -> psycopg.Connection[Any]:
    millis = int(caps.seconds * 1000)
    session = f"-c default_transaction_read_only=on -c statement_timeout={millis} -c lock_timeout={millis}"
    parameters: dict[str, Any] = {
        "host": url.host,
        "hostaddr": address,
        "port": url.port or 5432,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
        "connect_timeout": 5,
        "options": session,
        **options,
    }
    connection = psycopg.connect(make_conninfo(**parameters))
    connection.read_only = True
    read_as_text(connection.adapters)
    return connection


def _ask(connection: psycopg.Connection[Any], sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    # With a parameter list, even an empty one, the server takes exactly one statement: nothing can follow it.
    with connection.cursor() as cursor:
        # Row by row: the cap must bound memory, too. Closing the generator cancels the rest.
        stream = cast(Generator[Any, None, None], cursor.stream(for_driver(sql).encode(), list(parameters)))
        with closing(stream) as rows:
            first = next(rows, None)  # the columns are known with the first row
            columns = [column.name for column in cursor.description or ()]
            return Rows(columns, []) if first is None else take(columns, chain([first], rows), caps)
