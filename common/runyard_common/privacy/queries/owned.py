"""The rows of an organisation, table by table, by the rules of `ownership`: a page at a time, never a whole table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, LargeBinary, Row, Table, func, select, tuple_

from runyard_common.privacy.rules.ownership import RULES, Rule, Whose
from runyard_common.tables import metadata
from runyard_common.tables.query import Member, StoredFile

#: Rows read at once: each may have megabytes of JSON.
PAGE: Final = 50
#: Owners whose rows are looked for in one statement.
OWNERS: Final = 200


def table_of(name: str) -> Table:
    """The table of this name."""
    return metadata.tables[name]


def exported(name: str) -> list[Any]:
    """The columns of a table that may leave the database: no bytes, and none that its rule hides."""
    hidden = RULES[name].hidden
    return [
        column
        for column in table_of(name).columns
        if not isinstance(column.type, LargeBinary) and column.key not in hidden
    ]


def hidden(name: str) -> list[str]:
    """The columns of a table that no export has."""
    shown = {column.key for column in exported(name)}
    return [column.key for column in table_of(name).columns if column.key not in shown]


def rows(conn: Connection, name: str, org_id: str) -> Iterator[dict[str, Any]]:
    """An organisation's rows of a table as an export has them, in the order of their keys by owner."""
    columns = exported(name)
    for condition in conditions(conn, name, org_id):
        for page in pages(conn, table_of(name), condition, columns):
            for row in page:
                yield {column.key: value for column, value in zip(columns, row, strict=True)}


def conditions(conn: Connection, name: str, org_id: str) -> Iterator[ColumnElement[bool]]:
    """What chooses an organisation's rows of a table: one condition, or one for each page of their owners."""
    rule, table = RULES[name], table_of(name)
    if rule.whose is Whose.ORGANISATION:
        yield table.c[rule.column] == org_id
    elif rule.whose is Whose.OWNER:
        for owners in owner_ids(conn, rule, org_id):
            yield table.c[rule.column].in_(owners)
    elif rule.whose is Whose.PERSON:
        persons = select(Member.user_id).where(Member.org_id == org_id)
        yield table.c[rule.column].in_(persons)


def owner_ids(conn: Connection, rule: Rule, org_id: str) -> Iterator[list[str]]:
    """The ids of an organisation's rows that own rows by this rule."""
    owner = table_of(rule.owner)
    for page in pages(conn, owner, owner.c.org_id == org_id, [owner.c.id], OWNERS):
        yield [row[0] for row in page]


def pages(
    conn: Connection, table: Table, condition: ColumnElement[bool], columns: Sequence[Any], size: int = PAGE
) -> Iterator[list[Row[Any]]]:
    """The rows that a condition chooses, by their keys."""
    key = list(table.primary_key.columns)
    query = select(*columns, *key).where(condition).order_by(*key).limit(size)
    after: tuple[Any, ...] | None = None
    while True:
        more = query if after is None else query.where(tuple_(*key) > tuple_(*after))
        found = conn.execute(more).all()
        if found:
            after = tuple(found[-1][len(columns) :])
            yield [row[: len(columns)] for row in found]  # type: ignore[misc]
        if len(found) < size:
            return


def count(conn: Connection, name: str, org_id: str) -> int:
    """How many rows of a table are an organisation's."""
    table = table_of(name)
    query = select(func.count()).select_from(table)
    return sum(conn.execute(query.where(chosen)).scalar_one() for chosen in conditions(conn, name, org_id))


def contents(conn: Connection, org_id: str) -> Iterator[str]:
    """The hashes of an organisation's files, some of them more than once."""
    table = StoredFile.__table__
    for page in pages(conn, table, table.c.org_id == org_id, [table.c.sha256], OWNERS):
        yield from (row[0] for row in page)
