"""The `?` placeholders of a query: found outside strings, names and comments, and written as a driver wants them.

A literal question mark (an operator of PostgreSQL's jsonb) is written ``??``.
"""

from __future__ import annotations

from runyard_workers.agent.sql.lexer import MYSQL, POSTGRESQL, Grammar, tokens


def count(sql: str, *, mysql: bool = False) -> int:
    """How many parameters a query takes."""
    return sum(1 for token in tokens(sql, MYSQL if mysql else POSTGRESQL) if token.kind == "marker")


def for_driver(sql: str, grammar: Grammar = POSTGRESQL) -> str:
    """The query in the ``%s`` style of psycopg and PyMySQL."""
    written = {"marker": "%s", "literal": "?"}
    return "".join(written.get(token.kind) or token.text.replace("%", "%%") for token in tokens(sql, grammar))
