"""PostgreSQL: a cursor in a read-only transaction, by a role that cannot reach outside, fetched up to the caps."""

from __future__ import annotations

import re
import ssl
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from psycopg import abc
from psycopg import sql as compose
from psycopg.adapt import Transformer
from psycopg.conninfo import make_conninfo

from runyard_common.datastores.rules import DatabaseTls
from runyard_workers.agent.sql import functions
from runyard_workers.agent.sql.lexer import POSTGRESQL, for_driver
from runyard_workers.agent.sql.postgres_values import read_as_text
from runyard_workers.agent.sql.relay import Way
from runyard_workers.agent.sql.results import UNREACHABLE, Caps, QueryFailed, Rows, read_rows
from runyard_workers.agent.sql.statements import Statement, StatementRefused, judged

#: Connection options a caller may set besides those of TLS; others name files of this server, or other hosts.
_ALLOWED: Final = frozenset({"application_name", "channel_binding"})
#: What libpq would read from this process's environment and home folder, where nothing is given.
_NOT_OURS: Final = {"passfile": "/dev/null/none", "sslcertmode": "disable", "gssencmode": "disable"}
#: The role that reads everything and can do nothing else, from this version on.
_READER: Final = "pg_read_all_data"
_HAS_READER: Final = 140_000
#: How libpq writes a server's error, and that it has no TLS or no certificate that is trusted.
_SENT_BY_SERVER: Final = re.compile(
    r"FATAL: |ERROR: |server does not support SSL|certificate|root\.crt|SCRAM|channel binding"
)
#: Longer values are not parsed (JSON, arrays): they are cut anyway, and Python's form takes many times their size.
_LONGEST_PARSED: Final = 65_536
#: See `runyard_common.datastores.queries.server_identity`.
_IDENTITY: Final = "SELECT extract(epoch FROM pg_postmaster_start_time())::text"
_MOST_FETCHED: Final = 50
_BATCH_BYTES: Final = 2**20

#: Functions of these names that do more than compute, as the database declares them: of names that are called, and of
#: attributes where one argument is enough. What is written in a trusted language runs in the same read-only transaction
#: as the query, with no way out of its own.
_SUSPECTS: Final = """
    SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE (p.proname = ANY(%s::text[])
        OR (p.proname = ANY(%s::text[]) AND p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1))
    AND (p.proname ~ %s
        OR (p.provolatile = 'v' AND NOT l.lanpltrusted AND p.proname <> ALL(%s::text[]))
        OR (p.provolatile = 'v' AND p.pronamespace = 'pg_catalog'::regnamespace AND p.proname <> ALL(%s::text[])))
"""


def ask(way: Way, sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    """Run a statement. Blocks for as long as it takes. Raises `QueryFailed`."""
    statement = judged(sql, POSTGRESQL)
    try:
        with closing(_connect(way, caps)) as connection:
            _check_server(connection, way.own_server)
            _step_down(connection)
            _check_functions(connection, statement)
            if statement.first in ("show", "explain"):
                return _stream(connection, sql, parameters, caps)
            return _fetch(connection, sql, parameters, caps)
    except (psycopg.Error, ValueError, OverflowError, TypeError) as error:
        raise QueryFailed(str(error).strip() or type(error).__name__) from error


def _connect(way: Way, caps: Caps) -> psycopg.Connection[Any]:
    url, tls = way.url, way.tls
    millis = int(caps.seconds * 1000)
    # Without standard strings, a backslash would end a string elsewhere than `lexer` sees it end.
    session = (
        f"-c default_transaction_read_only=on -c statement_timeout={millis} -c lock_timeout={millis} "
        "-c standard_conforming_strings=on"
    )
    options = {name: str(value) for name, value in url.query.items() if name in _ALLOWED}
    with ExitStack() as files:
        parameters: dict[str, Any] = {
            **_NOT_OURS,
            "host": url.host,  # whose certificate is verified; the connection goes to the relay
            "hostaddr": "127.0.0.1",
            "port": way.port,
            "user": url.username,
            "password": url.password or "",
            "dbname": url.database,
            "connect_timeout": 5,
            "options": session,
            "sslmode": tls.mode,
            **({"sslrootcert": _authority(tls, files)} if tls.verifies else {}),
            **options,
        }
        try:
            connection = psycopg.connect(make_conninfo(**parameters))
        except psycopg.OperationalError as error:
            # A PostgreSQL server's own error is the caller's to correct; what others answer is not shown.
            text = str(error)
            raise QueryFailed(text.strip() if _SENT_BY_SERVER.search(text) else UNREACHABLE) from error
    connection.read_only = True
    read_as_text(connection.adapters)
    return connection


def _authority(tls: DatabaseTls, files: ExitStack) -> str:
    """The file of the certificates that are trusted."""
    if tls.authority is None:
        return ssl.get_default_verify_paths().cafile or "system"
    folder = files.enter_context(tempfile.TemporaryDirectory(prefix="runyard-ca-"))
    file = Path(folder) / "ca.pem"
    file.write_text(tls.authority)
    return str(file)


def _check_server(connection: psycopg.Connection[Any], own: str | None) -> None:
    """Another address, a proxy or a forwarded port may lead to the installation's own server all the same."""
    if own is not None and connection.execute(_IDENTITY).fetchone() == (own,):
        raise StatementRefused(
            "this is the database server of this installation itself, which nothing else may reach; use another"
        )


def _step_down(connection: psycopg.Connection[Any]) -> None:
    """A superuser could read files and run programs in any transaction: let the server revoke that."""
    superuser = connection.info.parameter_status("is_superuser") == "on"
    if superuser and connection.info.server_version >= _HAS_READER:
        connection.execute(compose.SQL("SET LOCAL ROLE {}").format(compose.Identifier(_READER)))


def _check_functions(connection: psycopg.Connection[Any], statement: Statement) -> None:
    """Ask the catalogue what the functions of a statement are: it knows extensions and the caller's own, too."""
    if not (statement.calls or statement.attributes):
        return
    harmless = sorted(functions.POSTGRESQL_VOLATILE)
    calls, attributes = list(statement.calls), list(statement.attributes)
    found = connection.execute(
        _SUSPECTS, [calls, attributes, functions.POSTGRESQL_REFUSED, harmless, harmless]
    ).fetchmany(20)
    if found:
        refused = ", ".join(sorted(row[0] for row in found))
        raise StatementRefused(f"the function {refused} does more than read; a query may not call it")


def _fetch(connection: psycopg.Connection[Any], sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    """Through a cursor: the server itself declares one for nothing but a query, and sends what is fetched."""
    with connection.cursor() as cursor:
        declare = b"DECLARE runyard NO SCROLL CURSOR FOR " + for_driver(sql).encode()
        # The binary format makes psycopg use the extended protocol, in which nothing can follow a statement.
        cursor.execute(declare, list(parameters), binary=True)
        cursor.execute("FETCH 0 FROM runyard")
        columns = [column.name for column in cursor.description or ()]
        return read_rows(columns, _rows(connection, cursor), caps)


def _rows(connection: psycopg.Connection[Any], cursor: psycopg.Cursor[Any]) -> Iterator[list[Any]]:
    """Fetched in batches that grow while rows are small, so that none is larger than it need be."""
    transformer = Transformer.from_context(connection)
    batch = 1
    while True:
        cursor.execute(compose.SQL("FETCH {} FROM runyard").format(batch))
        result = cursor.pgresult
        assert result is not None
        size = 0
        for row in range(result.ntuples):
            raw = [result.get_value(row, column) for column in range(result.nfields)]
            size += sum(len(value) for value in raw if value is not None)
            yield [_loaded(transformer, result.ftype(column), value) for column, value in enumerate(raw)]
        if result.ntuples < batch:
            return
        each = max(1, size // batch)
        batch = max(1, min(batch * 4, _MOST_FETCHED, _BATCH_BYTES // each))


def _loaded(transformer: abc.Transformer, type_: int, value: bytes | None) -> Any:
    if value is None:
        return None
    if len(value) > _LONGEST_PARSED:
        return value[:_LONGEST_PARSED].decode(errors="replace")
    return transformer.get_loader(type_, psycopg.pq.Format.TEXT).load(value)


def _stream(connection: psycopg.Connection[Any], sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    """SHOW and EXPLAIN have no cursor. A stream uses the extended protocol, in which nothing can follow."""
    with connection.cursor() as cursor:
        stream = cast(Generator[Any, None, None], cursor.stream(for_driver(sql).encode(), list(parameters)))
        with closing(stream) as rows:
            first = next(rows, None)  # the columns are known with the first row
            columns = [column.name for column in cursor.description or ()]
            return Rows(columns, []) if first is None else read_rows(columns, chain([first], rows), caps)
