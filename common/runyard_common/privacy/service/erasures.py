"""The erasure of an organisation, in small steps. Ended at any point, it goes on when it is begun again.

In order, so that nothing comes back: it is closed (no caller, no new run); its schedules, webhooks and deliveries go,
so that nothing begins and nothing more is sent; its runs are stopped; its rows go, those that others own before their
owners; its persons go; last, in one transaction, the organisation itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

from runyard_common.database.transaction import Store, Tx
from runyard_common.datastores.service import datastores
from runyard_common.files import FileStore, open_files
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.erasing import ERASING, is_erasing
from runyard_common.identity.service import organisations
from runyard_common.identity.service.identity import DEFAULT
from runyard_common.privacy.queries import owned, removal
from runyard_common.privacy.queries.removal import Remover
from runyard_common.privacy.rules.ownership import RULES, Whose
from runyard_common.privacy.service import persons
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.settings import Settings
from runyard_common.tables.query import Delivery, Task
from runyard_common.values.errors import Conflict

Progress = Callable[[str, int], None]

#: What the reason of the runs that are stopped is.
REASON: Final = "the organisation is erased"
#: Seconds between closing and deleting: processes remember a caller for two, and a request may be under way.
SETTLE: Final = 5.0
#: Contents stored or attached again this lately are left to the scheduler's sweep: another's run may be about to have
#: them.
FRESH: Final = timedelta(hours=1)
_AT_ONCE: Final = 100
_LOOK: Final = 0.2
_FIRST: Final = ("endpoints", "callbacks", "deliveries")


@dataclass(slots=True)
class Erased:
    """What went: rows by table, persons, contents of files. `fresh_files` are left to the sweep."""

    counts: dict[str, int] = field(default_factory=dict)
    stopped: int = 0
    persons: int = 0
    files: int = 0
    fresh_files: set[str] = field(default_factory=set)
    longest_transaction_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What an erasure would delete."""

    counts: dict[str, int]
    unfinished: int
    persons: int


def plan(store: Store, org_id: str) -> Plan:
    """What `erase` would delete now."""
    with store.db.snapshot() as conn:
        counts = {name: owned.count(conn, name, org_id) for name in RULES if _is_counted(name)}
        unfinished = sum(len(page) for page in _unfinished(conn, org_id))
        leaving = sum(len(persons.only_here(conn, org_id, page)) for page in _members(conn, org_id))
    return Plan({name: count for name, count in counts.items() if count}, unfinished, leaving)


def begin(tx: Tx, org_id: str) -> float:
    """Close an organisation, which is not opened again; since when it is, in epoch seconds on the database's clock.

    Errors: `NotFound` organisation_not_found, `Conflict` own_organisation.
    """
    identity.lock_organisation(tx, org_id)
    found = organisations.own(tx, org_id)
    operators = identity.organisation_named(tx.conn, DEFAULT)
    if operators is not None and operators.id == org_id:
        raise Conflict(
            "The operator's own organisation cannot be erased.", code="own_organisation", field="org"
        )
    settings = dict(found.settings or {})
    if not is_erasing(settings):
        settings[ERASING] = tx.now
    identity.update_organisation(tx, org_id, active=False, settings=settings)
    return float(settings[ERASING])


def erase(
    store: Store,
    settings: Settings,
    org_id: str,
    actor: str,
    progress: Progress,
    wait: float,
    settle: float | None = None,
) -> Erased:
    """Delete an organisation with all that is its own, and audit that as `actor` with the operator.

    Runs that undo what they have done before they end (compensations) get `wait` seconds for it.
    Errors: those of `begin`, and of the file store: what is left then goes when it is begun again.
    """
    work = _Erasure(store, open_files(settings.files), org_id, Remover(store, progress))
    if not was_erased(store, org_id):
        with store.begin() as tx:
            began = begin(tx, org_id)
        work.silence()
        work.stop(wait)
        with store.read() as conn:
            pause = SETTLE if settle is None else settle
            time.sleep(max(0.0, min(pause, began + pause - store.db.now(conn))))
        work.stop(0.0)  # what was stored while it was closed
        shutil.rmtree(datastores.folder(settings.home, org_id), ignore_errors=True)
        work.delete()
        while not work.end(actor, began):
            work.delete()
    work.delete()  # what a statement that was under way has written since
    with store.begin() as tx:
        removal.remove_number(tx, org_id)
    store.db.empty_log()
    work.done.longest_transaction_s = work.remover.longest
    return work.done


def was_erased(store: Store, org_id: str) -> bool:
    """Whether the organisation of this id is gone. What a killed erasure left to look at last is looked at again."""
    with store.read() as conn:
        return identity.organisation(conn, org_id) is None and removal.noted(conn, org_id)


class _Erasure:
    def __init__(self, store: Store, files: FileStore, org_id: str, remover: Remover) -> None:
        self._store = store
        self._files = files
        self._org_id = org_id
        self.remover = remover
        self.done = Erased(remover.counts)

    def silence(self) -> None:
        """Let nothing begin by itself, and nothing more be sent."""
        self._owned_of("schedules")
        self._own("schedules")
        for name in _FIRST:
            self._own(name)

    def stop(self, wait: float) -> None:
        """Stop every run; what undoes its work gets some time."""
        with self._store.read() as conn:
            found = [task_id for page in _unfinished(conn, self._org_id) for task_id in page]
        for start in range(0, len(found), _AT_ONCE):
            self._cancel(found[start : start + _AT_ONCE])
        self.done.stopped += len(found)
        until = time.monotonic() + wait
        while self._any_unfinished() and time.monotonic() < until:
            time.sleep(_LOOK)

    def _cancel(self, task_ids: list[str]) -> None:
        with self._store.begin() as tx:
            cancel_tasks(tx, task_ids, REASON)
            tx.conn.execute(Delivery.__table__.delete().where(Delivery.task_id.in_(task_ids)))

    def _any_unfinished(self) -> bool:
        query = select(Task.id).where(Task.org_id == self._org_id, Task.finished_at.is_(None)).limit(1)
        with self._store.read() as conn:
            return conn.execute(query).first() is not None

    def delete(self) -> None:
        """Delete every row but the organisation's own; what owns others after them."""
        for owner in removal.owners():
            self._owned_of(owner)
        for name in removal.own_tables():
            if name == "files":
                self._delete_files()
            else:
                self._own(name)
        for name in RULES:
            chosen = removal.mentions(name, self._org_id)
            if chosen is not None:
                self.remover.rows(name, chosen)
        self._delete_persons()

    def _own(self, name: str) -> None:
        table = owned.table_of(name)
        before = removal.subtract_samples if name == "queue_samples" else None
        self.remover.rows(name, table.c[RULES[name].column] == self._org_id, before)

    def _owned_of(self, owner: str) -> None:
        """Delete what the organisation's rows of a table own. The owners stay, so that a second start finds them."""
        after = ""
        table = owned.table_of(owner)
        query = select(table.c.id).where(table.c.org_id == self._org_id).order_by(table.c.id).limit(_AT_ONCE)
        while True:
            with self._store.read() as conn:
                ids = list(conn.execute(query.where(table.c.id > after)).scalars())
            if not ids:
                return
            after = ids[-1]
            for name, column in removal.owned_by(owner):
                self.remover.rows(name, owned.table_of(name).c[column].in_(ids))

    def _delete_files(self) -> None:
        """Delete contents, then the rows that name them: what is interrupted between finds its rows again."""
        fresh = datetime.now(UTC) - FRESH
        while True:
            with self._store.read() as conn:
                ids = removal.file_batch(conn, self._org_id, _AT_ONCE)
                hashes = removal.file_hashes(conn, ids) if ids else set()
                gone = hashes - removal.of_others(conn, self._org_id, hashes) if hashes else set()
            if not ids:
                return
            for sha256 in gone:
                if self._files.delete(sha256, unless_renewed_since=fresh):
                    self.done.files += 1
                elif self._files.exists(sha256):
                    self.done.fresh_files.add(sha256)
            self.remover.rows("files", owned.table_of("files").c.id.in_(ids))

    def _delete_persons(self) -> None:
        """Delete the members' places, and the persons who have no other."""
        while True:
            with self._store.read() as conn:
                ids = removal.leavers(conn, self._org_id, _AT_ONCE)
                leaving = persons.only_here(conn, self._org_id, ids)
            if not ids:
                return
            persons.erase_many(self._store, self.remover, leaving)
            self.done.persons += len(leaving)
            table = owned.table_of("members")
            chosen = (table.c.org_id == self._org_id) & table.c.user_id.in_(ids)
            self.remover.rows("members", chosen)

    def end(self, actor: str, began: float) -> bool:
        """Delete the organisation itself, if it has nothing more. An entry of the operator's audit log stays."""
        with self._store.begin() as tx:
            removal.overwrite(tx)
            if removal.left(tx.conn, self._org_id):
                return False
            removal.remove_itself(tx, self._org_id)
            operators = identity.organisation_named(tx.conn, DEFAULT)
            if operators is not None:
                data = {"began_at": began, "rows": sum(self.remover.counts.values())}
                identity.audit(tx, operators.id, actor, removal.ERASED, self._org_id, data)
        return True


def _is_counted(name: str) -> bool:
    """Whether a plan has it: persons are counted by themselves."""
    return RULES[name].whose in (Whose.ORGANISATION, Whose.OWNER) and name != "config_versions"


def _unfinished(conn: Connection, org_id: str) -> Iterator[list[str]]:
    table = Task.__table__
    chosen = (table.c.org_id == org_id) & table.c.finished_at.is_(None)
    for page in owned.pages(conn, table, chosen, [table.c.id], _AT_ONCE):
        yield [row[0] for row in page]


def _members(conn: Connection, org_id: str) -> Iterator[list[str]]:
    table = owned.table_of("members")
    for page in owned.pages(conn, table, table.c.org_id == org_id, [table.c.user_id], _AT_ONCE):
        yield [row[0] for row in page]
