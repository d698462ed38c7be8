"""MySQL and MariaDB: a session whose every transaction is read-only, rows fetched up to the caps."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any, Final

import pymysql
from pymysql.constants import CR, FIELD_TYPE
from pymysql.converters import conversions
from pymysql.cursors import SSCursor
from pymysql.protocol import MysqlPacket

from runyard_common.datastores.rules import DatabaseTls
from runyard_workers.agent.sql import functions
from runyard_workers.agent.sql.lexer import Grammar, for_driver
from runyard_workers.agent.sql.relay import Way
from runyard_workers.agent.sql.results import UNREACHABLE, Caps, QueryFailed, Rows, read_rows
from runyard_workers.agent.sql.statements import Statement, StatementRefused, judged

#: MySQL's times go beyond a day and below zero, its dates may be 0000-00-00: they stay the text that it writes.
_CONVERSIONS: Final = {
    key: convert
    for key, convert in conversions.items()
    if key not in (FIELD_TYPE.TIME, FIELD_TYPE.DATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP)
}
#: A table has at most 4,096 columns, each in a packet of its own; rows are read up to the caps.
_MOST_PACKETS: Final = 20_000
_CONNECT_SECONDS: Final = 5.0
_STORED: Final = (
    "SELECT LOWER(ROUTINE_NAME) FROM information_schema.ROUTINES "
    "WHERE ROUTINE_TYPE = 'FUNCTION' AND LOWER(ROUTINE_NAME) IN %s"
)


def ask(way: Way, sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    """Run a statement. Blocks for as long as it takes. Raises `QueryFailed`."""
    try:
        with closing(_connect(way, caps)) as connection:
            return _ask(connection, sql, parameters, caps)
    except QueryFailed:
        raise
    except pymysql.Error as error:
        message = str(error.args[1]) if len(error.args) > 1 else str(error)
        raise QueryFailed(message or type(error).__name__) from error
    except (ssl.SSLError, OSError) as error:
        raise QueryFailed(f"the connection to the database failed: {error}") from error
    except Exception as error:
        # The driver reads the protocol without checks of its own: nonsense from a server is any exception at all.
        raise QueryFailed(f"the database did not speak MySQL's protocol ({type(error).__name__})") from error


class _Connection(pymysql.Connection):
    """A connection that takes so many packets and no more: each becomes objects of many times its size."""

    _packets = 0

    def _read_packet(self, packet_type: Any = MysqlPacket) -> Any:
        self._packets += 1
        if self._packets > _MOST_PACKETS:
            raise QueryFailed(f"the database sent more than {_MOST_PACKETS} packets for one query")
        return super()._read_packet(packet_type)  # type: ignore[no-untyped-call]


class _Cursor(SSCursor):
    """A cursor that leaves the rows it did not read where they are; the driver's own reads them all when closed."""

    _result: Any

    def close(self) -> None:
        """Let go of the result."""
        if self._result is not None:
            self._result.unbuffered_active = False
            self._result.connection = None
            self._result = None
        self.connection = None  # type: ignore[assignment]


def _connect(way: Way, caps: Caps) -> pymysql.Connection[Any]:
    url = way.url
    # PyMySQL leaves multi-statements and LOCAL INFILE off unless asked for.
    connection = _Connection(
        host=url.host,  # whose certificate is verified; the connection goes to the relay
        user=url.username,
        password=url.password or "",
        database=url.database,
        charset="utf8mb4",
        read_timeout=caps.seconds + 1,
        write_timeout=caps.seconds + 1,
        cursorclass=_Cursor,
        conv=_CONVERSIONS,
        defer_connect=True,
        **_encryption(way.tls),
    )
    reached: socket.socket | None = None
    try:
        reached = socket.create_connection(("127.0.0.1", way.port), _CONNECT_SECONDS)
        connection.connect(reached)
        reached = None
    except QueryFailed:
        raise
    except (
        Exception
    ) as error:  # the driver reads the protocol without checks: nonsense is any exception at all
        if _sent_by_server(error):
            raise
        raise QueryFailed(UNREACHABLE) from error
    finally:
        if reached is not None:  # the driver does not close it in every case
            reached.close()
    return connection


def _sent_by_server(error: Exception) -> bool:
    """Whether a MySQL server sent this itself, or its TLS is not as asked: that is the caller's to correct."""
    code = error.args[0] if isinstance(error, pymysql.Error) and error.args else None
    by_server = isinstance(code, int) and (1000 <= code < 2000 or code == CR.CR_SSL_CONNECTION_ERROR)
    return by_server or "certificate" in str(error).lower()


def _encryption(tls: DatabaseTls) -> dict[str, Any]:
    if tls.mode == "disable":
        return {"ssl_disabled": True}
    if tls.mode == "prefer":  # the driver's own way: encrypted where the server offers it, not verified
        return {}
    context = ssl.create_default_context(cadata=tls.authority)
    # The certificates that MySQL makes for itself lack what the strict reading asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if tls.verifies else ssl.CERT_NONE
    return {"ssl": context}


def _ask(connection: pymysql.Connection[Any], sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    with connection.cursor(pymysql.cursors.Cursor) as setting:
        setting.execute("SELECT @@SESSION.sql_mode")
        grammar = Grammar.of_mysql(str((setting.fetchone() or ("",))[0]))
        _check_functions(setting, judged(sql, grammar))
        setting.execute("SET SESSION TRANSACTION READ ONLY")
        _limit_time(setting, caps.seconds)
        setting.execute("START TRANSACTION READ ONLY")
    with connection.cursor() as cursor:
        cursor.execute(for_driver(sql, grammar), tuple(parameters))
        columns = [column[0] for column in cursor.description or ()]
        return read_rows(columns, cursor.fetchall_unbuffered() if columns else (), caps)


def _check_functions(cursor: Any, statement: Statement) -> None:
    """Built-in functions by list; the database's own run in the same read-only transaction. Loadable ones, whose code
    is a library of the server's host, are neither."""
    unknown = {
        name.lower()
        for name in statement.calls
        if name.lower() not in functions.MYSQL
        and name.lower() not in functions.MYSQL_WORDS
        and not name.lower().startswith(functions.MYSQL_PREFIXES)
    }
    if unknown and not unknown & functions.MYSQL_REFUSED:
        cursor.execute(_STORED, (sorted(unknown),))
        unknown -= {str(row[0]) for row in cursor.fetchall()}
    if unknown:
        refused = ", ".join(sorted(unknown)).upper()
        raise StatementRefused(f"the function {refused} is not one that a query may call")


def _limit_time(cursor: Any, seconds: float) -> None:
    """The two families name the limit differently; where neither is known, the socket's timeout remains."""
    with suppress(pymysql.Error):
        cursor.execute(f"SET SESSION MAX_EXECUTION_TIME={int(seconds * 1000)}")
        return
    with suppress(pymysql.Error):
        cursor.execute(f"SET SESSION max_statement_time={seconds:g}")
