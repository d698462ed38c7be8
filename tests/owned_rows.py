"""A row of every table for an organisation, made from the schema: what the rules of ownership are tried on."""

from __future__ import annotations

import itertools
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    insert,
)

from runyard_common.database.columns import Json
from runyard_common.privacy.rules.ownership import RULES, Whose
from runyard_common.tables import metadata

#: What no export may have: it is in every column of bytes, and in those that open something.
SECRET: Final = "what-opens-something"
_SECRET_COLUMNS: Final = ("csrf", "claim_token")
#: Made by triggers, or one of a kind.
_MADE: Final = ("config_versions",)
_ONE: Final = ("organisations", "lanes", "members")
_VALUES: Final[dict[tuple[str, str], Any]] = {
    ("tasks", "status"): "completed",
    ("tasks", "blocked_by"): None,
    ("tasks", "parent_id"): None,
    ("tasks", "lease_owner"): None,
    ("tasks", "available_at"): None,
    ("tasks", "has_callback"): False,
    ("organisations", "settings"): None,
    ("deliveries", "state"): "pending",
    ("deliveries", "lease_owner"): None,
    ("files", "sha256"): None,  # given by the caller, or made up
}
_numbers = itertools.count(1)


def is_secret(column: Column[Any]) -> bool:
    """Whether a column has what opens something, by its type or its name."""
    named = column.key.endswith("_hash") or column.key in _SECRET_COLUMNS
    return named or isinstance(column.type, LargeBinary)


def fill(conn: Connection, org: str, rows: int = 1) -> None:
    """Give an organisation rows in every table; one person of its own is its member."""
    for name, rule in RULES.items():
        if name in _MADE or rule.whose is Whose.INSTALLATION:
            continue
        made = 1 if name in _ONE or rule.whose is Whose.PERSON else rows
        table = metadata.tables[name]
        conn.execute(insert(table), [_row(table, org, number) for number in range(made)])


def user_of(org: str) -> str:
    """The id of the person of an organisation."""
    return f"person-of-{org}"


def _row(table: Table, org: str, number: int) -> dict[str, Any]:
    row = {column.key: _value(table, column, org, number) for column in table.columns}
    rule = RULES[table.name]
    if rule.whose is Whose.ORGANISATION:
        row[rule.column] = org
    elif rule.whose is Whose.OWNER:
        row[rule.column] = f"{rule.owner}-{org}-{number}"
    elif rule.whose is Whose.PERSON:
        row[rule.column] = user_of(org)
    if table.name == "members":
        row["user_id"] = user_of(org)
    return row


def _value(table: Table, column: Column[Any], org: str, number: int) -> Any:
    if (table.name, column.key) in _VALUES:
        given = _VALUES[table.name, column.key]
        return f"{next(_numbers):064x}" if column.key == "sha256" else given
    kind = column.type
    if isinstance(kind, LargeBinary):
        return SECRET.encode()
    if isinstance(kind, Json):
        return {"of": org}
    if isinstance(kind, Boolean):
        return True
    if isinstance(kind, Integer | BigInteger):
        return next(_numbers)
    if isinstance(kind, Float):
        return float(next(_numbers))
    text = f"{SECRET}-{next(_numbers)}" if is_secret(column) else f"{table.name}-{org}-{number}"
    if column.key != "id":
        text = f"{text}-{column.key}"
    return text[: kind.length] if isinstance(kind, String) and kind.length else text
