"""Statements of SQLAlchemy that are put together once, and executed on the driver itself.

For each execution SQLAlchemy looks up what it has compiled, makes a context, a cursor and a result, which takes ten
times as long as sending the statement. The statements of each run's way do that once for each kind of database: what
is kept is their text, the order of their parameters, and what makes of a value a parameter and of a column a value.
Errors are raised as those of any other statement.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection, bindparam
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import LargeBinary

from runyard_common.database.columns import any_of

Values = Mapping[str, Any]
_NONE: Final[Values] = {}
#: PostgreSQL's number of the type of all columns for which SQLAlchemy asks for it: numbers are doubles.
_DOUBLE: Final = 701
_numbers = itertools.count()


class PreparedStatement:
    """One statement, which any connection of a `Database` may execute."""

    def __init__(self, make: Callable[[bool], Any]) -> None:
        """`make` gives the statement of SQLAlchemy, for PostgreSQL if its argument is true. Its parameters are named;
        an INSERT names its columns in `values`. None of them may expand: see `columns.any_of`."""
        self.make = make
        self._forms: dict[str, Form] = {}

    def all(self, conn: Connection, values: Values = _NONE) -> list[Any]:
        """The rows that it gives: tuples with the columns as attributes. Errors: SQLAlchemy's `DBAPIError`."""
        form = self.form(conn)
        if not form.is_postgres:
            return form.rows(_on_sqlite(conn, form, values).fetchall())
        if not form.is_pipelined(conn):
            return list(conn.execute(form.statement, values))
        return _driver(conn).rows_of(conn, form, (values,))

    def each(self, conn: Connection, *rows: Values) -> list[Any]:
        """As `all`, for several times its parameters: the rows that it gives for all of them."""
        form = self.form(conn)
        if form.is_pipelined(conn):
            return _driver(conn).rows_of(conn, form, rows)
        if form.is_postgres:
            return list(conn.execute(form.statement, list(rows)))
        return form.rows(row for values in rows for row in _on_sqlite(conn, form, values).fetchall())

    def send(self, conn: Connection, *rows: Values) -> None:
        """Execute it for each of these rows. Nothing is read of it, and on PostgreSQL nothing is waited for: its error
        may be raised by a later statement or the commit."""
        form = self.form(conn)
        if not form.is_postgres:
            _on_sqlite(conn, form, *rows)
        elif not form.is_pipelined(conn):
            conn.execute(form.statement, list(rows))
        else:
            _driver(conn).send(conn, form, rows)

    def form(self, conn: Connection) -> Form:
        """What is kept of it for the kind of database of this connection."""
        dialect = conn.dialect
        form = self._forms.get(dialect.name)
        if form is None:
            form = self._forms[dialect.name] = Form(self.make(dialect.name == "postgresql"), dialect)
        for listener in conn.dispatch.before_cursor_execute:
            listener(conn, None, form.text, (), None, False)
        return form


class ByKeys:
    """A statement for the rows of some keys, which are one parameter.

    One key has a statement of its own: in a plan for any list PostgreSQL takes it for ten keys, and so makes a plan for
    each short list again, which costs more than the statement.
    """

    def __init__(self, column: Any, make: Callable[[Any], Any]) -> None:
        """`make` gives the statement where this condition chooses the rows."""
        self._one = PreparedStatement(lambda postgres: make(column == bindparam("key")))
        self._some = PreparedStatement(lambda postgres: make(any_of(column, "keys", postgres)))

    def all(self, conn: Connection, keys: Sequence[str]) -> list[Any]:
        """See `PreparedStatement.all`."""
        if len(keys) == 1:
            return self._one.all(conn, {"key": keys[0]})
        return self._some.all(conn, {"keys": keys}) if keys else []

    def send(self, conn: Connection, keys: Sequence[str], **values: Any) -> None:
        """See `PreparedStatement.send`."""
        if len(keys) == 1:
            self._one.send(conn, values | {"key": keys[0]})
        elif keys:
            self._some.send(conn, values | {"keys": keys})


class Form:
    """A statement as one kind of database gets it."""

    def __init__(self, statement: Any, dialect: Any) -> None:
        self.statement = statement
        self.is_postgres = dialect.name == "postgresql"
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        if "POSTCOMPILE" in self.text:
            raise TypeError(f"a parameter of this statement expands: {self.text}")
        order = compiled.positiontup
        if order is None:
            self.text, order = _numbered(self.text)
        self.query = self.text.encode()
        self.name = b"runyard_%d" % next(_numbers)
        defaults = {column.key: column.default.arg for column in getattr(compiled, "insert_prefetch", ())}
        self._parameters = [_parameter(compiled.binds[name], name, defaults, dialect) for name in order]
        gives_rows = getattr(statement, "is_select", False) or getattr(compiled, "effective_returning", ())
        columns = list(statement.exported_columns) if gives_rows else []
        row: Any = namedtuple("Row", [c.key for c in columns])  # type: ignore[misc]
        self._kind: Callable[[Iterable[Any]], Any] = row._make
        made = [c.type.dialect_impl(dialect).result_processor(dialect, _DOUBLE) for c in columns]
        self._processors = [(place, process) for place, process in enumerate(made) if process is not None]

    def is_pipelined(self, conn: Connection) -> bool:
        """Whether this connection to PostgreSQL is one whose statements may be sent without SQLAlchemy."""
        return getattr(conn.dialect, "is_pipelined", False)

    def parameters(self, values: Values) -> list[Any]:
        """The parameters in their order. Raises KeyError where one is not given."""
        return [
            default
            if default is not _REQUIRED and name not in values
            else values[name]
            if process is None
            else process(values[name])
            for name, process, default in self._parameters
        ]

    def row(self, columns: Sequence[Any]) -> Any:
        """A row of what the driver gives."""
        if not self._processors:
            return self._kind(columns)
        found = list(columns)
        for place, process in self._processors:
            found[place] = process(found[place])
        return self._kind(found)

    def rows(self, found: Iterable[Sequence[Any]]) -> list[Any]:
        """As `row`."""
        return [self.row(columns) for columns in found]


_REQUIRED: Final = object()


def _parameter(bind: Any, name: str, defaults: Values, dialect: Any) -> tuple[str, Any, Any]:
    """The name of a parameter, what makes of a value what the driver gets, and what that is without a value."""
    kind = bind.type.dialect_impl(dialect)
    process = None if isinstance(kind, LargeBinary) else kind.bind_processor(dialect)
    if bind.required and name not in defaults:
        return name, process, _REQUIRED
    value = defaults.get(name, bind.value)
    if callable(value):
        raise TypeError(f"{name} has a computed default: give a value")
    return name, process, value if process is None else process(value)


def _numbered(text: str) -> tuple[str, list[str]]:
    """A text with psycopg's parameters as one with PostgreSQL's ($1, $2, …), and their names in that order."""
    first, *parts = text.split("%(")
    order: dict[str, int] = {}
    found = [first]
    for part in parts:
        name, rest = part.split(")s", 1)
        found.append(f"${order.setdefault(name, len(order) + 1)}{rest}")
    return "".join(found).replace("%%", "%"), list(order)


class _Pipelined(Protocol):
    """A connection to PostgreSQL (`pipelined.PipelinedConnection`)."""

    def rows_of(self, conn: Connection, form: Form, rows: Sequence[Values], /) -> list[Any]:
        """Execute a statement that is kept for each of these rows, and wait for the rows that it gives."""

    def send(self, conn: Connection, form: Form, rows: Sequence[Values], /) -> None:
        """Execute a statement that is kept for each of these rows, and wait for nothing."""


def _driver(conn: Connection) -> _Pipelined:
    driver: Any = conn.connection.driver_connection
    return driver  # type: ignore[no-any-return]


def _on_sqlite(conn: Connection, form: Form, *rows: Values) -> sqlite3.Cursor:
    driver: sqlite3.Connection = conn.connection.driver_connection  # type: ignore[assignment]
    parameters = [form.parameters(values) for values in rows]
    try:
        if len(parameters) == 1:
            return driver.execute(form.text, parameters[0])
        return driver.executemany(form.text, parameters)
    except sqlite3.Error as error:
        raise DBAPIError.instance(form.text, None, error, sqlite3.Error, dialect=conn.dialect) from error
