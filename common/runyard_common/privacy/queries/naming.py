"""Where a person is named: their own rows, and those of organisations in which they did something."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries.members import PersonRow
from runyard_common.privacy.queries import owned
from runyard_common.privacy.queries.removal import Remover
from runyard_common.privacy.rules.marks import ERASED, forms, marked
from runyard_common.privacy.rules.ownership import RULES, Whose
from runyard_common.tables.query import ApiKey, Audit, Invitation, Login, Member

#: Rows of a table looked through in one statement.
_WINDOW: Final = 2_000
#: What JSON that names a person has: `user:<id>` or `jwt:<subject>`.
_LIKELY: Final = ("%user:%", "%jwt:%")


@dataclass(frozen=True, slots=True)
class Persons:
    """What names some persons in rows: ids, actors, addresses."""

    ids: frozenset[str]
    names: frozenset[str]

    @staticmethod
    def of(persons: Iterable[PersonRow]) -> Persons:
        """What names these."""
        found = list(persons)
        names = frozenset(name for person in found for name in forms(person.id, person.email))
        return Persons(frozenset(person.id for person in found), names)


def of_persons() -> list[str]:
    """The tables that have persons' own rows, the accounts last."""
    names = [name for name, rule in RULES.items() if rule.whose is Whose.PERSON]
    return sorted(names, key=lambda name: name == "users")


def condition(name: str, ids: Collection[str]) -> ColumnElement[bool]:
    """What chooses these persons' own rows."""
    return owned.table_of(name).c[RULES[name].column].in_(sorted(ids))


def tables() -> list[str]:
    """The tables of an export of a person."""
    named = [name for name, rule in RULES.items() if rule.by and not rule.left_out]
    return [name for name in of_persons() if name != "recovery_codes"] + ["members"] + named


def rows(conn: Connection, name: str, user_id: str, email: str) -> Iterator[dict[str, Any]]:
    """A person's rows of a table as an export has them."""
    table, columns = owned.table_of(name), owned.exported(name)
    for page in owned.pages(conn, table, _naming(name, user_id, email), columns):
        for row in page:
            yield {column.key: value for column, value in zip(columns, row, strict=True)}


def _naming(name: str, user_id: str, email: str) -> ColumnElement[bool]:
    rule, table = RULES[name], owned.table_of(name)
    if rule.whose is Whose.PERSON:
        return table.c[rule.column] == user_id
    if name == "members":
        return table.c.user_id == user_id
    names = forms(user_id, email)
    found: list[ColumnElement[bool]] = [table.c[column].in_(names) for column in rule.by]
    if name == "invitations":
        found.append(table.c.email == email)
    if name == "api_keys":
        found.append(table.c.person_id == user_id)
    if name == "audit":
        found.append(table.c.object_id == user_id)
    return or_(*found)


def shut_out(tx: Tx, ids: Sequence[str], addresses: Sequence[str]) -> None:
    """End what lets these persons in: sign-ins, places, invitations, and the keys behind which they are."""
    tx.conn.execute(delete(Login).where(Login.user_id.in_(ids)))
    tx.conn.execute(delete(Invitation).where(Invitation.email.in_(addresses)))
    revoked = update(ApiKey).where(ApiKey.person_id.in_(ids), ApiKey.revoked_at.is_(None))
    tx.conn.execute(revoked.values(revoked_at=tx.now))
    named = update(ApiKey).where(ApiKey.person_id.in_(ids))
    tx.conn.execute(named.values(person_id=ERASED, name=ERASED))


def forget_places(tx: Tx, ids: Sequence[str]) -> None:
    """Take these persons' places in every organisation away."""
    tx.conn.execute(delete(Member).where(Member.user_id.in_(ids)))


def mark_all(remover: Remover, persons: Persons) -> int:
    """Put the mark in the place of these persons wherever they are named as who did something; in how many rows."""
    changed = 0
    if not persons.ids:
        return changed
    for name, rule in RULES.items():
        for column in rule.by:
            work = partial(_mark_column, name=name, column=column, names=persons.names)
            while done := remover.transact(work):
                changed += done
        if rule.about:
            changed += _mark_documents(remover, name, persons)
    return changed


def _mark_column(tx: Tx, name: str, column: str, names: Collection[str]) -> int:
    table = owned.table_of(name)
    key = list(table.primary_key.columns)
    query = select(*key).where(table.c[column].in_(names)).limit(_WINDOW // 10)
    found = [tuple(row) for row in tx.conn.execute(query)]
    for one in found:
        tx.conn.execute(update(table).where(_same(key, one)).values({column: ERASED}))
    return len(found)


def _same(key: Sequence[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    return and_(*(column == value for column, value in zip(key, values, strict=True)))


def _mark_documents(remover: Remover, name: str, persons: Persons) -> int:
    """Look through a table, a window of its keys at a time, for documents that name these persons."""
    table, changed = owned.table_of(name), 0
    after: tuple[Any, ...] | None = None
    while True:
        ends: list[Any] = []
        changed += remover.transact(
            partial(_mark_window, table=table, persons=persons, after=after, ends=ends)
        )
        after = ends[-1]
        if after is None:
            return changed


def _mark_window(
    tx: Tx, table: Table, persons: Persons, after: tuple[Any, ...] | None, ends: list[Any]
) -> int:
    """Change what names them in one window; in how many rows. `ends` gets its last key, None for the last window."""
    columns = RULES[table.name].about
    key = list(table.primary_key.columns)
    behind = [] if after is None else [tuple_(*key) > tuple_(*after)]
    end = tx.conn.execute(select(*key).where(*behind).order_by(*key).limit(1).offset(_WINDOW - 1)).first()
    within = [*behind] if end is None else [*behind, tuple_(*key) <= tuple_(*end)]
    audit = table is Audit.__table__
    likely = (
        [] if audit else [or_(*(type_coerce(table.c[c], Text).like(p) for c in columns for p in _LIKELY))]
    )
    shown = [table.c[column] for column in columns]
    done = 0
    for row in tx.conn.execute(select(*key, *shown).where(*within, *likely)).all():
        before = dict(zip(columns, row[len(key) : len(key) + len(columns)], strict=True))
        about = audit and row.object_id in persons.ids
        new = {column: marked(value, persons.names, about) for column, value in before.items()}
        if new != before:
            tx.conn.execute(update(table).where(_same(key, row[: len(key)])).values(new))
            done += 1
    ends.append(None if end is None else tuple(end))
    return done
