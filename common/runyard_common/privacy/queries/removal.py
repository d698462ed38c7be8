"""Deleting the rows of an organisation in small batches, each in a transaction of its own, with pauses between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, delete, select, tuple_, update
from sqlalchemy.exc import DBAPIError

from runyard_common.database import rows
from runyard_common.database.engine import Durability
from runyard_common.database.outages import sqlstate
from runyard_common.database.transaction import Store, Tx
from runyard_common.privacy.queries import owned
from runyard_common.privacy.rules.ownership import RULES, Whose
from runyard_common.tables.query import (
    Audit,
    Lane,
    Member,
    Organisation,
    QueueSample,
    StatisticsProgress,
    StoredFile,
)

#: Rows of a transaction: as many as take about `GOAL` seconds, within these bounds.
FEWEST, FIRST, MOST = 50, 100, 1000
GOAL: Final = 0.02
#: The least pause between two transactions; a longer one pauses as long as it took.
BREATH: Final = 0.02
_DEADLOCK, _LOCK_TIMEOUT = "40P01", "55P03"
_TRIES: Final = 5
_EVERY: Final = "*"
#: What is deleted with the organisation itself, after all others.
LAST: Final = ("members", "organisations", "config_versions")


class Remover:
    """Deletes rows as fast as others do not notice. `progress` gets a table's name and how many of it are deleted."""

    def __init__(self, store: Store, progress: Callable[[str, int], None]) -> None:
        self._store = store
        self._progress = progress
        self._rows = FIRST
        self.counts: dict[str, int] = {}
        #: The longest transaction, in seconds.
        self.longest = 0.0

    def rows(
        self,
        name: str,
        condition: ColumnElement[bool],
        before: Callable[[Tx, list[Any]], object] | None = None,
    ) -> int:
        """Delete the rows of a table that a condition chooses; how many. `before` gets the keys of each batch."""
        table, deleted = owned.table_of(name), 0
        while gone := self.transact(lambda tx: _batch(tx, table, condition, self._rows, before)):
            deleted += gone
            self.counts[name] = self.counts.get(name, 0) + gone
            self._progress(name, self.counts[name])
        return deleted

    def transact(self, work: Callable[[Tx], int]) -> int:
        """One small transaction, and a pause. What another's locks have prevented is tried again."""
        for left in reversed(range(_TRIES)):
            try:
                with self._store.begin(Durability.NONE) as tx:
                    began = time.monotonic()  # the wait for its turn is no time in which others wait for it
                    overwrite(tx)
                    done = work(tx)
                break
            except DBAPIError as error:
                if not left or sqlstate(error) not in (_DEADLOCK, _LOCK_TIMEOUT):
                    raise
                time.sleep(BREATH)
        took = time.monotonic() - began
        self.longest = max(self.longest, took)
        if done:
            self._rows = max(FEWEST, min(MOST, self._rows // 2 if took > GOAL else self._rows * 2))
        if done or took > BREATH:
            time.sleep(max(BREATH, took))
        return done


def overwrite(tx: Tx) -> None:
    """Have SQLite overwrite what this connection deletes: else it stays in the file until the space is used again."""
    if not tx.db.is_postgres:
        tx.conn.exec_driver_sql("PRAGMA secure_delete = ON")


def _batch(
    tx: Tx,
    table: Table,
    condition: ColumnElement[bool],
    most: int,
    before: Callable[[Tx, list[Any]], object] | None,
) -> int:
    key = list(table.primary_key.columns)
    found = [tuple(row) for row in tx.conn.execute(select(*key).where(condition).limit(most))]
    if found:
        if before is not None:
            before(tx, found)
        tx.conn.execute(delete(table).where(_among(key, found)))
    return len(found)


def _among(key: list[Any], found: list[Any]) -> ColumnElement[bool]:
    if len(key) == 1:
        return key[0].in_([one for (one,) in found])  # type: ignore[no-any-return]
    return tuple_(*key).in_(found)


def owners() -> list[str]:
    """The tables whose rows own others."""
    return sorted({rule.owner for rule in RULES.values() if rule.owner})


def owned_by(owner: str) -> list[tuple[str, str]]:
    """The tables whose rows a table's rows own, with the column that names the owner."""
    return [(name, rule.column) for name, rule in RULES.items() if rule.owner == owner]


def own_tables() -> list[str]:
    """The tables with an organisation's id, but those that are deleted last."""
    return [name for name, rule in RULES.items() if rule.whose is Whose.ORGANISATION and name not in LAST]


def mentions(name: str, org_id: str) -> ColumnElement[bool] | None:
    """What chooses the rows of the installation, or of another organisation, that name this one."""
    rule, table = RULES[name], owned.table_of(name)
    if rule.whose is Whose.PASSING:
        return table.primary_key.columns[0].is_not(None)
    if rule.elsewhere:
        return (table.c[rule.column] == _EVERY) & table.c[rule.elsewhere].contains(org_id, autoescape=True)
    if name == "audit":
        return (Audit.org_id != org_id) & (Audit.object_id == org_id) & (Audit.action != ERASED)  # type: ignore[no-any-return]
    return None


#: The action of the entry in the audit log that stays.
ERASED: Final = "organisation.erase"


def subtract_samples(tx: Tx, keys: list[Any]) -> None:
    """Take what kept an organisation's runs queued out of the samples of all: their names may be persons' ids."""
    for org_id, kind, step, at, name in keys:
        if kind != "blocker":
            continue
        same = (
            QueueSample.kind == kind,
            QueueSample.step == step,
            QueueSample.at == at,
            QueueSample.name == name,
        )
        own = tx.conn.execute(select(QueueSample.total).where(QueueSample.org_id == org_id, *same)).scalar()
        whole = (QueueSample.org_id == _EVERY, *same)
        tx.conn.execute(update(QueueSample).where(*whole).values(total=QueueSample.total - (own or 0)))
        tx.conn.execute(delete(QueueSample).where(*whole, QueueSample.total <= 0))


def file_hashes(conn: Connection, ids: list[str]) -> set[str]:
    """The contents of these files."""
    return set(conn.execute(select(StoredFile.sha256).where(StoredFile.id.in_(ids))).scalars())


def of_others(conn: Connection, org_id: str, hashes: set[str]) -> set[str]:
    """Those of these contents that another organisation has, too."""
    query = select(StoredFile.sha256).where(StoredFile.sha256.in_(hashes), StoredFile.org_id != org_id)
    return set(conn.execute(query.distinct()).scalars())


def file_batch(conn: Connection, org_id: str, most: int) -> list[str]:
    """Some files of an organisation."""
    return list(conn.execute(select(StoredFile.id).where(StoredFile.org_id == org_id).limit(most)).scalars())


def leavers(conn: Connection, org_id: str, most: int) -> list[str]:
    """Some members, by person."""
    return list(conn.execute(select(Member.user_id).where(Member.org_id == org_id).limit(most)).scalars())


def members_elsewhere(conn: Connection, org_id: str, user_ids: list[str]) -> set[str]:
    """Those of these persons that belong to another organisation, too."""
    query = select(Member.user_id).where(Member.user_id.in_(user_ids), Member.org_id != org_id)
    return set(conn.execute(query).scalars())


def left(conn: Connection, org_id: str) -> list[str]:
    """The tables that have something of an organisation still, but for those that are deleted last."""
    names = [*own_tables(), "members"]
    found = []
    for name in names:
        table = owned.table_of(name)
        query = select(*table.primary_key.columns).where(table.c[RULES[name].column] == org_id)
        if conn.execute(query.limit(1)).first() is not None:
            found.append(name)
    return found


def noted(conn: Connection, org_id: str) -> bool:
    """Whether the audit log has the entry of an organisation's erasure."""
    query = select(Audit.id).where(Audit.action == ERASED, Audit.object_id == org_id).limit(1)
    return conn.execute(query).first() is not None


def remove_itself(tx: Tx, org_id: str) -> None:
    """Delete the organisation, and its place among the others. Sums that are under way are not written."""
    tx.conn.execute(update(Lane).where(Lane.lane == _EVERY, Lane.passed == org_id).values(passed=""))
    tx.conn.execute(update(StatisticsProgress).values(revision=StatisticsProgress.revision + 1))
    tx.conn.execute(delete(Organisation).where(Organisation.id == org_id))
    remove_number(tx, org_id)


def remove_number(tx: Tx, org_id: str) -> None:
    """Delete the number of its configuration, and raise that of all by as much: what a process remembers of the
    organisation, its keys before all, is found to be outdated, as no number ever falls."""
    table = owned.table_of("config_versions")
    own = tx.conn.execute(select(table.c.number).where(table.c.scope == org_id).with_for_update()).scalar()
    if own is None:
        return
    tx.conn.execute(delete(table).where(table.c.scope == org_id))
    raised = rows.insert(tx.db.is_postgres, table).values(scope=_EVERY, number=own + 1)
    more = {"number": table.c.number + raised.excluded.number}
    tx.conn.execute(raised.on_conflict_do_update(index_elements=["scope"], set_=more))
