"""A worker that brings many Python agents: what it asks the database for does not grow with each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event

from runyard_common.agents.queries import agents
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.values.ids import uuid7
from runyard_workers.agent_code import catalogue
from tests import databases
from tests.benchmarks.large_agents import python_agents

AGENTS = 150


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store of its own."""
    opened = databases.opened(database_url)
    yield Store(opened)
    opened.close()


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Every statement that is executed meanwhile."""
    seen: list[str] = []

    def note(conn: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(store.db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(store.db.engine, "before_cursor_execute", note)


def test_what_is_published_already_is_not_published_again_one_by_one(store: Store) -> None:
    org, code = uuid7(), python_agents(AGENTS)
    names = [f"{one.name}@1.0.0" for one in code]
    assert catalogue.bring(store, org, code, [], refused=[]) == names
    with statements(store) as seen:
        assert catalogue.bring(store, org, code, [], refused=[]) == names
        assert catalogue.versions_of(store, org, code) == tuple(names)
    assert len(seen) < AGENTS / 2


def test_of_many_agents_those_that_were_changed_are_published(store: Store) -> None:
    org, code = uuid7(), python_agents(AGENTS)
    catalogue.bring(store, org, code, [], refused=[])
    code[3] = replace(code[3], input_schema={"type": "object"})
    code[120] = replace(code[120], description="Another text.")
    brought = catalogue.bring(store, org, code, [], refused=[])
    changed = [name for name in brought if "+" in name]
    assert len(brought) == AGENTS
    assert [name.partition("+")[0] for name in changed] == [f"{code[3].name}@1.0.0"]
    assert catalogue.versions_of(store, org, code)[3] == changed[0]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_finds_an_agent_by_its_name_and_not_among_all_that_are_shared(store: Store) -> None:
    with statements(store) as seen, store.read() as conn:
        agents.by_name(OrgScope(conn, uuid7()), "@bench/code00001")
        plan = conn.exec_driver_sql("EXPLAIN QUERY PLAN " + seen[-1], ("", "", "", 1, 0))
        assert "SEARCH agents USING INDEX ix_agents_name (name=?)" in [row[3] for row in plan]
