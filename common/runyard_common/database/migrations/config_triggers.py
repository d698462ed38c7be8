"""The triggers that raise an organisation's number in `config_versions`. So processes of every version raise it, and an
operator's SQL does.

Migrations that rebuild a table on SQLite (`op.batch_alter_table`) lose its triggers, and SQLite refuses to rename a
table while a trigger of another names one that is gone. They call `drop` first and `create` after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

_ALL: Final = "*"
_SHARED: Final = f"CASE WHEN {{row}}.shared THEN '{_ALL}' ELSE {{row}}.org_id END"
#: Whose number a row raises, by what the row has; `{row}` is the row.
ORGANISATION: Final = "{row}.org_id"
ITSELF: Final = "{row}.id"
AGENT: Final = _SHARED  # one that the operator shares concerns every organisation
OF_AGENT: Final = f"(SELECT {_SHARED.format(row='a')} FROM agents AS a WHERE a.id = {{row}}.agent_id)"  # noqa: S608 - all ours


@dataclass(frozen=True, slots=True)
class Watched:
    """A table whose rows are known from memory. `columns` are those that count when a row is changed; none: all."""

    table: str
    scope: str
    columns: tuple[str, ...] = ()


def create(conn: Connection, tables: Sequence[Watched]) -> None:
    """Make the triggers of these tables."""
    _execute(conn, _on_postgres(tables) if conn.dialect.name == "postgresql" else _on_sqlite(tables))


def drop(conn: Connection, tables: Sequence[Watched]) -> None:
    """Undo `create`."""
    if conn.dialect.name == "postgresql":
        for watched in tables:
            _execute(conn, [f"DROP FUNCTION runyard_config_{watched.table}() CASCADE"])
        _execute(conn, ["DROP FUNCTION runyard_raise_config(text, text)"])
    else:
        _execute(conn, [f"DROP TRIGGER {name}" for watched in tables for name in _names(watched)])


def _execute(conn: Connection, statements: Iterator[str] | list[str]) -> None:
    for statement in statements:
        conn.execute(text(statement.replace(":", r"\:")))


def _on_postgres(tables: Sequence[Watched]) -> Iterator[str]:
    # A transaction raises a scope once, however many rows it writes: no other sees its numbers in between, and ten
    # thousand versions of one row would each be looked at by the next. What it raised last is kept in a setting, which
    # ends with the transaction and is taken back with a savepoint. Two scopes are raised in one order.
    yield """
        CREATE FUNCTION runyard_raise_config(one text, other text) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE raised text := (SELECT string_agg(DISTINCT s, ' ' ORDER BY s) FROM unnest(ARRAY[one, other]) AS s);
        BEGIN
            IF raised IS NULL OR current_setting('runyard.raised', true) = raised THEN
                RETURN;
            END IF;
            INSERT INTO config_versions AS known (scope, number)
            SELECT DISTINCT s, 1 FROM unnest(ARRAY[one, other]) AS s WHERE s IS NOT NULL ORDER BY s
            ON CONFLICT (scope) DO UPDATE SET number = known.number + 1;
            PERFORM set_config('runyard.raised', raised, true);
        END $$
    """
    for watched in tables:
        old, new = watched.scope.format(row="OLD"), watched.scope.format(row="NEW")
        function = f"runyard_config_{watched.table}"
        # Its search path is that of the migration: who writes by hand may have another.
        yield f"""
            CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
            BEGIN PERFORM runyard_raise_config({old}, {new}); RETURN NULL; END $$
        """
        made = f"FOR EACH ROW {{when}} EXECUTE FUNCTION {function}()"
        for name, event in zip(_names(watched), _EVENTS, strict=True):
            when = _when(watched, "IS DISTINCT FROM") if event == "UPDATE" else ""
            yield f"CREATE TRIGGER {name} AFTER {event} ON {watched.table} {made.format(when=when)}"


def _on_sqlite(tables: Sequence[Watched]) -> Iterator[str]:
    for watched in tables:
        old, new = watched.scope.format(row="OLD"), watched.scope.format(row="NEW")
        scopes = {
            "INSERT": f"SELECT {new} AS s",
            "UPDATE": f"SELECT {old} AS s UNION SELECT {new}",
            "DELETE": f"SELECT {old} AS s",
        }
        for name, event in zip(_names(watched), _EVENTS, strict=True):
            when = _when(watched, "IS NOT") if event == "UPDATE" else ""
            yield f"""
                CREATE TRIGGER {name} AFTER {event} ON {watched.table} FOR EACH ROW {when} BEGIN
                    INSERT INTO config_versions (scope, number) SELECT s, 1 FROM ({scopes[event]}) WHERE s IS NOT NULL
                    ON CONFLICT (scope) DO UPDATE SET number = number + 1;
                END
            """  # noqa: S608 - all ours


_EVENTS: Final = ("INSERT", "UPDATE", "DELETE")


def _names(watched: Watched) -> list[str]:
    return [f"config_{watched.table}_{event.lower()}" for event in _EVENTS]


def _when(watched: Watched, differs: str) -> str:
    if not watched.columns:
        return ""
    return "WHEN (" + " OR ".join(f"OLD.{name} {differs} NEW.{name}" for name in watched.columns) + ")"
