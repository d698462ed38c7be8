"""Whose the rows of each table are: a table, or a column, that is added and forgotten here fails."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_common.privacy.queries import owned
from runyard_common.privacy.rules.ownership import RULES, Whose
from runyard_common.tables import metadata
from tests.owned_rows import is_secret

#: Columns that name who did something.
ACTORS = {"created_by", "updated_by", "answered_by", "sent_by", "actor"}


def columns() -> list[Any]:
    return [column for table in metadata.sorted_tables for column in table.columns]


def test_every_table_has_a_rule_for_whose_its_rows_are() -> None:
    missing, unknown = metadata.tables.keys() - RULES.keys(), RULES.keys() - metadata.tables.keys()
    assert not missing, f"Add to RULES in privacy/rules/ownership.py whose the rows of these are: {missing}"
    assert not unknown, f"There is no such table any more: {unknown}"


@pytest.mark.parametrize("name", RULES)
def test_a_rule_names_columns_and_owners_that_there_are(name: str) -> None:
    rule, table = RULES[name], metadata.tables[name]
    named = {rule.column, rule.elsewhere, *rule.hidden, *rule.by, *rule.about} - {""}
    assert named <= set(table.columns.keys())
    if rule.whose is Whose.OWNER:
        assert RULES[rule.owner].whose is Whose.ORGANISATION
        assert {"id", "org_id"} <= set(metadata.tables[rule.owner].columns.keys())


def test_a_table_with_the_id_of_an_organisation_is_that_organisations() -> None:
    for table in metadata.sorted_tables:
        if "org_id" in table.columns:
            assert (RULES[table.name].whose, RULES[table.name].column) == (Whose.ORGANISATION, "org_id")


def test_nothing_that_opens_something_is_exported() -> None:
    shown = {column for name, rule in RULES.items() if not rule.left_out for column in owned.exported(name)}
    assert not [str(column) for column in shown if is_secret(column)]
    assert "users.password_hash" not in map(str, shown)
    assert "users.email" in map(str, shown)


def test_every_column_that_names_an_actor_is_known_as_one() -> None:
    unknown = [
        str(column)
        for column in columns()
        if column.key in ACTORS and column.key not in RULES[column.table.name].by
    ]
    assert not unknown, f"Add to `by` of its rule: {unknown}"
