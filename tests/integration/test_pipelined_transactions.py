"""Write transactions on PostgreSQL: what is sent without waiting fails and succeeds as if each statement had waited."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    cast,
    column,
    extract,
    func,
    insert,
    literal,
    select,
    table,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from runyard_common.clock import DatabaseClock
from runyard_common.database.engine import LATER, Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Outdated, Store, Tx

pytestmark = pytest.mark.postgres

NUMBERS = table("numbers", column("n", Integer))
COUNT = select(func.count()).select_from(NUMBERS).scalar_subquery()


@pytest.fixture
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    db = Database(fresh_database())
    with db.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (n integer PRIMARY KEY)")
    yield Store(db)
    db.close()


def _add(tx: Tx, *numbers: int) -> None:
    tx.conn.execute(insert(NUMBERS), [{"n": n} for n in numbers])


def _add_each(store: Store, *numbers: int) -> None:
    with store.begin() as tx:
        for number in numbers:
            _add(tx, number)


def _add_if_none(store: Store, number: int, otherwise: Callable[[], object]) -> None:
    with store.begin() as tx:
        tx.require(_count_is(0), otherwise)
        _add(tx, number)


def _look_at_the_time(store: Store) -> float:
    with store.begin() as tx:
        tx.require(_count_is(0), lambda: None)
        return tx.now


def _stored(store: Store) -> set[int]:
    with store.read() as conn:
        return set(conn.execute(select(NUMBERS.c.n)).scalars())


def test_a_transaction_sees_what_it_has_sent(store: Store) -> None:
    with store.begin() as tx:
        _add(tx, 1, 2)
        assert set(tx.conn.execute(select(NUMBERS.c.n)).scalars()) == {1, 2}


@pytest.mark.parametrize("more", [(), (5, 6)], ids=["nothing behind it", "more behind it"])
def test_an_error_that_nothing_waited_for_is_raised_by_the_commit_and_nothing_is_stored(
    store: Store, more: tuple[int, ...]
) -> None:
    with store.begin() as tx:
        _add(tx, 1)
    with pytest.raises(IntegrityError):
        _add_each(store, 2, 1, *more)
    assert _stored(store) == {1}
    with store.begin() as tx:  # the connection is as good as before
        _add(tx, 3)
    assert _stored(store) == {1, 3}


def test_an_error_is_raised_by_the_next_statement_that_waits_and_nothing_is_left_of_it(store: Store) -> None:
    with store.begin() as tx:
        _add(tx, 1)
    for _ in range(20):  # the answer may come while the statement is sent, or later
        with store.begin() as tx:
            _add(tx, 1)
            with pytest.raises(IntegrityError):
                tx.conn.execute(select(NUMBERS.c.n))
    assert _stored(store) == {1}


def test_an_error_belongs_to_its_savepoint(store: Store) -> None:
    with store.begin() as tx:
        _add(tx, 1)
        savepoint = tx.conn.begin_nested()
        with pytest.raises(IntegrityError):
            _add(tx, 1)
        savepoint.rollback()
        _add(tx, 2)
    assert _stored(store) == {1, 2}


def test_a_statement_prepared_behind_an_error_works_afterwards(store: Store) -> None:
    for n in range(20):  # past the number of times after which the driver prepares a statement
        with pytest.raises(IntegrityError):
            _add_each(store, n, n)
    with store.begin() as tx:
        _add(tx, 1)
    assert _stored(store) == {1}


def test_a_condition_that_holds_commits_and_one_that_does_not_writes_nothing(store: Store) -> None:
    forgotten: list[str] = []
    _add_if_none(store, 1, lambda: forgotten.append("never"))
    with pytest.raises(Outdated):
        _add_if_none(store, 2, lambda: forgotten.append("the count"))
    assert (_stored(store), forgotten) == ({1}, ["the count"])


def test_a_condition_that_fails_while_the_time_is_waited_for_is_no_other_error(store: Store) -> None:
    store.db.clock = DatabaseClock()  # as after ten seconds without a transaction
    with store.begin() as tx:
        _add(tx, 1)
    store.db.clock = DatabaseClock()
    with pytest.raises(Outdated):
        _look_at_the_time(store)


def test_a_division_by_zero_of_ones_own_is_not_taken_for_a_condition(store: Store) -> None:
    with pytest.raises(DBAPIError), store.begin() as tx:
        tx.conn.execute(select(1 / COUNT), execution_options=LATER)


def test_a_group_commit_runs_its_commands_again_once_what_it_went_by_is_forgotten(store: Store) -> None:
    known = {"count": 7}

    def add(tx: Tx, numbers: Sequence[int]) -> Sequence[int]:
        if "count" in known:
            tx.require(_count_is(known["count"]), known.clear)
        _add(tx, *numbers)
        return numbers

    writer = GroupCommit(store)
    try:
        assert writer.submit(add, 1).result(50) == 1
    finally:
        writer.close()
    assert (_stored(store), known) == ({1}, {})


def test_the_time_of_a_transaction_is_never_ahead_of_the_databases(store: Store) -> None:
    clock = select(cast(extract("epoch", func.clock_timestamp()), Double))
    for _ in range(50):
        with store.begin() as tx:
            before = tx.now
            now = float(tx.conn.execute(clock).scalar_one())
        assert now - 1.0 < before <= now


def _count_is(wanted: int) -> ColumnElement[bool]:
    return literal(wanted) == COUNT
