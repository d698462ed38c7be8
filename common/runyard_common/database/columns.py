"""Column kinds shared by the tables."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import BigInteger, Boolean, Column, Double, LargeBinary, MetaData, String, Text
from sqlalchemy import false as sql_false
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from runyard_common.values import json_form
from runyard_common.values.json_text import JsonText

metadata: MetaData = SQLModel.metadata


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


def dump(value: Any) -> str:
    """`value` as JSON text; `NotJson` when it has no JSON form."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # what should have been brought to its form before: half a surrogate pair, a decimal
        return json_form.encode(value).decode()


def key(**options: Any) -> Any:
    """A text primary key of at most 64 characters."""
    return Field(sa_column=Column(String(64), primary_key=True, **options))


def ref(nullable: bool = False, **options: Any) -> Any:
    """A text reference of at most 64 characters."""
    default: dict[str, Any] = {"default": None} if nullable else {}
    return Field(sa_column=Column(String(64), nullable=nullable, **options), **default)


def text(nullable: bool = False, length: int | None = None, **options: Any) -> Any:
    """Text, bounded when `length` is given."""
    default: dict[str, Any] = {"default": None} if nullable else {}
    return Field(
        sa_column=Column(String(length) if length else Text, nullable=nullable, **options), **default
    )


def json(nullable: bool = True) -> Any:
    """A JSON document."""
    return Field(default=None, sa_column=Column(Json, nullable=nullable))


def instant(nullable: bool = False) -> Any:
    """Seconds since the epoch, as a double."""
    default: dict[str, Any] = {"default": None} if nullable else {}
    return Field(sa_column=Column(Double, nullable=nullable), **default)


def integer(default: int = 0) -> Any:
    """A 64-bit integer."""
    return Field(default=default, sa_column=Column(BigInteger, nullable=False, default=default))


def flag() -> Any:
    """A truth value that begins false, also in rows of processes that do not know the column yet."""
    column = Column(Boolean, nullable=False, default=False, server_default=sql_false())
    return Field(default=False, sa_column=column)


def counter() -> Any:
    """A 64-bit count that begins at 0, also in rows of processes that do not know the column yet."""
    return Field(default=0, sa_column=Column(BigInteger, nullable=False, default=0, server_default="0"))


def seconds() -> Any:
    """A duration in seconds that begins at 0, also in rows of processes that do not know the column yet."""
    return Field(default=0.0, sa_column=Column(Double, nullable=False, default=0.0, server_default="0"))


def blob(nullable: bool = True) -> Any:
    """Bytes, in practice encrypted ones."""
    return Field(default=None, sa_column=Column(LargeBinary, nullable=nullable))
