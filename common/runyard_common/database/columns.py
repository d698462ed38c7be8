"""Column kinds shared by the tables."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Double,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy import Table as CoreTable
from sqlalchemy import false as sql_false
from sqlalchemy.types import TypeDecorator

from runyard import json_form
from runyard_common.values.json_text import JsonText

metadata = MetaData()


class Table:
    """A table as a class whose attributes are its columns, in the order they are written.

    Not an ORM: rows are read by queries. Made of Core's parts alone, because a process declares all tables each time
    it starts, and a library that makes a model of each takes half a second for it (decision 0035).
    """

    __tablename__: ClassVar[str]
    __table_args__: ClassVar[tuple[Any, ...]] = ()
    __table__: ClassVar[CoreTable]

    def __init_subclass__(cls) -> None:
        columns = {name: column for name, column in vars(cls).items() if isinstance(column, Column)}
        for name, column in columns.items():
            column.name, column.key = column.name or name, name
        cls.__table__ = CoreTable(cls.__tablename__, metadata, *columns.values(), *cls.__table_args__)

    @classmethod
    def __clause_element__(cls) -> CoreTable:
        """What SQLAlchemy takes for the class: `select(Task)`, `update(Task)`."""
        return cls.__table__


class Json(TypeDecorator[Any]):
    """JSON as text: NUL escapes survive (PostgreSQL's jsonb refuses them), both databases keep the same."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        """To the database."""
        if isinstance(value, JsonText):
            return value.text
        return None if value is None else dump(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """From the database."""
        return None if value is None else orjson.loads(value)


class Texts(TypeDecorator[Any]):
    """A list of texts as one parameter."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        """An array on PostgreSQL, JSON on SQLite."""
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """To the database."""
        return list(value) if dialect.name == "postgresql" else dump(list(value))


def any_of(column: Any, name: str, postgres: bool) -> Any:
    """Whether a text column is one of those of the parameter `name`, a list, of a statement that is kept."""
    given = bindparam(name, type_=Texts)
    if postgres:
        return column == any_(given)
    return column.in_(select(func.json_each(given).table_valued("value").c.value))


def dump(value: Any) -> str:
    """`value` as JSON text; `NotJson` when it has no JSON form."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # what should have been brought to its form before: half a surrogate pair, a decimal
        return json_form.encode(value).decode()


def where(condition: str) -> dict[str, Any]:
    """What declares an index as one of the rows that meet this condition: `Index(…, **where("state = 'open'"))`.

    It is kept as information: the migrations make the index, and SQLAlchemy's own options for it (`postgresql_where`,
    `sqlite_where`) load the dialects of both databases.
    """
    return {"info": {"where": condition}}


def key(**options: Any) -> Column[str]:
    """A text primary key of at most 64 characters."""
    return Column(String(64), primary_key=True, **options)


def ref(nullable: bool = False, **options: Any) -> Column[str]:
    """A text reference of at most 64 characters."""
    return Column(String(64), nullable=nullable, **options)


def text(nullable: bool = False, length: int | None = None, **options: Any) -> Column[str]:
    """Text, bounded when `length` is given."""
    return Column(String(length) if length else Text, nullable=nullable, **options)


def json(nullable: bool = True) -> Column[Any]:
    """A JSON document."""
    return Column(Json, nullable=nullable)


def instant(nullable: bool = False) -> Column[float]:
    """Seconds since the epoch, as a double."""
    return Column(Double, nullable=nullable)


def integer(default: int | None = 0) -> Column[int]:
    """A 64-bit integer; without a default it may be null."""
    return Column(BigInteger, nullable=default is None, default=default)


def integer32(**options: Any) -> Column[int]:
    """A 32-bit integer, not null unless `nullable`."""
    return Column(Integer, **{"nullable": False} | options)


def real(**options: Any) -> Column[float]:
    """A float, not null unless `nullable`."""
    return Column(Float, **{"nullable": False} | options)


def boolean(default: bool) -> Column[bool]:
    """A truth value."""
    return Column(Boolean, nullable=False, default=default)


def flag() -> Column[bool]:
    """A truth value that begins false, also in rows of processes that do not know the column yet."""
    return Column(Boolean, nullable=False, default=False, server_default=sql_false())


def counter() -> Column[int]:
    """A 64-bit count that begins at 0, also in rows of processes that do not know the column yet."""
    return Column(BigInteger, nullable=False, default=0, server_default="0")


def seconds() -> Column[float]:
    """A duration in seconds that begins at 0, also in rows of processes that do not know the column yet."""
    return Column(Double, nullable=False, default=0.0, server_default="0")


def blob(nullable: bool = True) -> Column[bytes]:
    """Bytes, in practice encrypted ones."""
    return Column(LargeBinary, nullable=nullable)
