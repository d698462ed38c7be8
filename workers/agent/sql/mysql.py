"""MySQL and MariaDB: a session whose every transaction is read-only, rows fetched up to the cap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any, Final

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions
from pymysql.cursors import SSCursor
from sqlalchemy.engine import URL

from workers.agent.sql.placeholders import for_driver
from workers.agent.sql.results import Caps, QueryFailed, Rows, take

#: MySQL's times go beyond a day and below zero, its dates may be 0000-00-00: they stay the text that it writes.
_CONVERSIONS: Final = {
    key: convert
    for key, convert in conversions.items()
    if key not in (FIELD_TYPE.TIME, FIELD_TYPE.DATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP)
}


def asker(url: URL, address: str) -> Callable[[str, Sequence[Any], Caps], Rows]:
    """Runs statements on the database of `url`, connecting to `address`."""

    def ask(sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
        try:
            with closing(_connect(url, address, caps)) as connection:
                return _ask(connection, sql, parameters, caps)
        except (pymysql.Error, ValueError, OverflowError, TypeError) as error:
            message = str(error.args[1]) if len(error.args) > 1 else str(error)
            raise QueryFailed(message or type(error).__name__) from error

    return ask


def _connect(url: URL, address: str, caps: Caps) -> pymysql.Connection[Any]:
    # PyMySQL leaves multi-statements and LOCAL INFILE off unless asked for.
    return pymysql.connect(
        host=address,
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        database=url.database,
        charset="utf8mb4",
        connect_timeout=5,
        read_timeout=caps.seconds + 1,
        write_timeout=caps.seconds + 1,
        cursorclass=SSCursor,
        conv=_CONVERSIONS,
    )


def _ask(connection: pymysql.Connection[Any], sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
        _limit_time(cursor, caps.seconds)
        cursor.execute("START TRANSACTION READ ONLY")
        cursor.execute(for_driver(sql, mysql=True), tuple(parameters))
        columns = [column[0] for column in cursor.description or ()]
        return take(columns, cursor.fetchall_unbuffered() if columns else (), caps)


def _limit_time(cursor: Any, seconds: float) -> None:
    """The two families name the limit differently; where neither is known, the socket's timeout remains."""
    with suppress(pymysql.Error):
        cursor.execute(f"SET SESSION MAX_EXECUTION_TIME={int(seconds * 1000)}")
        return
    with suppress(pymysql.Error):
        cursor.execute(f"SET SESSION max_statement_time={seconds:g}")
