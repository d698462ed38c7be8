"""The `?` placeholders of a query: found outside strings, names and comments, and written as a driver wants them.

A literal question mark (an operator of PostgreSQL's jsonb) is written ``??``.
"""

from __future__ import annotations

import re
from typing import Final

_TOKENS: Final = r"""
    (?P<skip>
        [eE]'(?:[^'\\]|\\.|'')*'            # a string with backslash escapes
      | %s                                   # a plain string
      | "(?:[^"]|"")*"                       # a quoted name
      | `[^`]*`
      | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$      # a dollar-quoted string
      | --[^\n]*
      | /\*.*?\*/
    )
  | (?P<literal>\?\?)
  | (?P<marker>\?)
  | (?P<percent>%%)
"""
_FLAGS = re.VERBOSE | re.DOTALL
_STANDARD: Final = re.compile(_TOKENS % r"'(?:[^']|'')*'", _FLAGS)
#: MySQL reads backslashes in every string, and has the comment sign #.
_MYSQL: Final = re.compile(_TOKENS % r"'(?:[^'\\]|\\.|'')*' | \#[^\n]*", _FLAGS)


def count(sql: str, *, mysql: bool = False) -> int:
    """How many parameters a query takes."""
    return sum(1 for token in _scanner(mysql).finditer(sql) if token["marker"])


def for_driver(sql: str, *, mysql: bool = False) -> str:
    """The query in the ``%s`` style of psycopg and PyMySQL."""

    def write(token: re.Match[str]) -> str:
        if token["marker"]:
            return "%s"
        if token["literal"]:
            return "?"
        return token[0].replace("%", "%%")

    return _scanner(mysql).sub(write, sql)


def _scanner(mysql: bool) -> re.Pattern[str]:
    return _MYSQL if mysql else _STANDARD
